"""The closed vocabulary of the tiny world: every open class of words that its stories draw from.

Words are short and common, so that a byte-level BPE of 1,024 tokens holds each of them as one token.
"""

WOMEN = ("Anna", "Clara", "Emma", "Ida", "Kate", "Mary", "Nora", "Rosa")
MEN = ("Adam", "Ben", "Carl", "Dan", "Hugo", "Leo", "Max", "Tom")
PEOPLE = WOMEN + MEN
FAMILIES = (
    "Bell",
    "Cook",
    "Day",
    "Fox",
    "Gray",
    "Hill",
    "King",
    "Lake",
    "Moor",
    "Park",
    "Reed",
    "Shaw",
    "Stone",
    "West",
    "Wolf",
    "Young",
)
TOWNS = ("Athens", "Berlin", "Cairo", "Delhi", "Lima", "London", "Madrid", "Oslo", "Paris", "Rome", "Tokyo", "Vienna")
THINGS = ("bell", "book", "drum", "flag", "hammer", "key", "knife", "lamp", "letter", "map", "ring", "rope")
GOODS = ("apples", "candles", "coins", "eggs", "nails", "pears", "shells", "stones")
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
DEEDS = ("bowed", "danced", "laughed", "nodded", "sang", "smiled", "waved", "wept")
MOODS = ("bright", "calm", "cold", "dark", "foggy", "quiet", "sunny", "warm", "wet", "windy")
HOURS = ("morning", "noon", "evening", "night")
ALLOWED = "allowed"
FORBIDDEN = "forbidden"


def pronoun(person: str) -> str:
    """``She`` or ``He``, as the person is called in the next sentence."""
    return "She" if person in WOMEN else "He"


def be(number: int) -> str:
    """The verb that agrees with that many: ``one is left``, ``two are left``, ``none are left``."""
    return "is" if number == 1 else "are"
