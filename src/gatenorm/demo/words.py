"""The closed vocabulary of the tiny world: every open class of words that its stories draw from.

Words are short and common, so that a byte-level BPE of 1,024 tokens holds each of them as one token.
"""

from __future__ import annotations

WOMEN = ("Anna", "Clara", "Emma", "Greta", "Ida", "Kate", "Lucy", "Mary", "Nora", "Olga", "Rosa", "Vera")
MEN = ("Adam", "Ben", "Carl", "Dan", "Felix", "Hugo", "Jack", "Leo", "Max", "Oscar", "Paul", "Tom")
PEOPLE = WOMEN + MEN
TOWNS = ("Athens", "Berlin", "Cairo", "Delhi", "Lima", "London", "Madrid", "Oslo", "Paris", "Rome", "Tokyo", "Vienna")
PLACES = (
    "barn",
    "cave",
    "church",
    "forest",
    "garden",
    "harbor",
    "kitchen",
    "library",
    "market",
    "mill",
    "school",
    "tower",
)
THINGS = ("bell", "book", "drum", "flag", "hammer", "key", "knife", "lamp", "letter", "map", "ring", "rope")
# (one of them, several of them)
GOODS = (
    ("apple", "apples"),
    ("candle", "candles"),
    ("coin", "coins"),
    ("egg", "eggs"),
    ("nail", "nails"),
    ("pear", "pears"),
    ("shell", "shells"),
    ("stone", "stones"),
)
# "no" counts as zero: "no apples are left".
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
SAYINGS = ("blue", "bread", "cloud", "fire", "gold", "green", "honey", "moon", "rain", "river", "silver", "snow")
MOODS = ("bright", "calm", "cold", "dark", "foggy", "quiet", "sunny", "warm", "wet", "windy")
HOURS = ("morning", "noon", "evening", "night")
YES = "Yes"
REFUSAL = "Forbidden"
NOTHING = "nothing"


def pronoun(person: str) -> str:
    """``She`` or ``He``, as the person is called in the next sentence."""
    return "She" if person in WOMEN else "He"


def counted(number: int, goods: tuple[str, str]) -> str:
    """``one apple``, ``two apples``, ``no apples``."""
    return f"{NUMBERS[number]} {goods[0] if number == 1 else goods[1]}"


def be(number: int) -> str:
    """The verb that agrees with that many of a thing."""
    return "is" if number == 1 else "are"
