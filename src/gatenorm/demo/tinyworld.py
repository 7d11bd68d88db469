"""The tiny world: English-like stories about people, places, things and amounts, whose every sentence has a cause.

A story opens with four people (who come from four towns), four places, four things, a basket of goods and one thing
that is forbidden. Then come one to five parts, each with three events and three questions with their answers. Whatever
follows from what was said before (where somebody goes *from*, who holds a thing, how many are left, what is refused,
every answer) is never a choice, so predicting it takes recall. A story of five parts fills 512 tokens nearly and never
exceeds them: what is asked in the last part often lies 400 tokens back.

A *world* is the set of a story's people, places and things. A hash of it says which split it belongs to, so no story of
the evaluation's worlds can ever be trained on, whatever seeds are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from gatenorm.demo.choices import Drawn, Source
from gatenorm.demo.words import (
    GOODS,
    HOURS,
    MOODS,
    NOTHING,
    NUMBERS,
    PEOPLE,
    PLACES,
    REFUSAL,
    SAYINGS,
    THINGS,
    TOWNS,
    YES,
    be,
    counted,
    pronoun,
)

END = "<|endoftext|>"
PARTS = (1, 2, 3, 4, 5)
_PART_WEIGHTS = (1, 1, 1, 1, 6)
CAST = 4
EVENTS_A_PART = QUESTIONS_A_PART = 3
_MOST = len(NUMBERS) - 1
# Of eight worlds one is for evaluation, one to watch the training by, six are trained on.
_SPLITS = ("evaluation", "watch", "train", "train", "train", "train", "train", "train")


@dataclass(frozen=True)
class World:
    """What a story is about, in the order of its mention."""

    people: tuple[str, ...]
    places: tuple[str, ...]
    things: tuple[str, ...]

    @property
    def split(self) -> str:
        """``train``, ``watch`` or ``evaluation``: decided by the world's sets alone, not by their order."""
        names = ",".join(sorted(self.people + self.places + self.things))
        return _SPLITS[hashlib.sha256(names.encode()).digest()[0] % len(_SPLITS)]


class Story:
    """A story in the making: its text so far, and the state of its world that the text implies.

    The opening is written at once; ``part``, ``event`` and ``question`` write on. Attributes: ``place`` (person ->
    place), ``holder`` (thing -> person), ``town`` (person -> town), ``left`` (number in the basket), ``said`` (person
    -> last word), ``forbidden`` (a thing).
    """

    def __init__(self, source: Source):
        self._source = source
        self.pieces: list[str] = []
        self.parts = source.choose(PARTS, _PART_WEIGHTS)
        self.write(f"This story has {NUMBERS[self.parts]} part{'s' if self.parts > 1 else ''}.")
        people, towns = self._several(PEOPLE, TOWNS)
        self.town = dict(zip(people, towns, strict=True))
        self.place: dict[str, str] = {}
        self.holder: dict[str, str] = {}
        self.said = dict.fromkeys(people, NOTHING)
        places, things = list(PLACES), list(THINGS)
        for person in people:
            place, thing = self._one_of(places), self._one_of(things)
            self.place[person], self.holder[thing] = place, person
            self.write(f" {person} stood in the {place} with the {thing}.")
        self.world = World(tuple(people), tuple(self.place.values()), tuple(self.holder))
        self.goods = source.choose(GOODS)
        self.left = source.choose(range(3, 10))
        self.write(f" The basket held {counted(self.left, self.goods)}.")
        self.forbidden = source.choose(self.world.things)
        self.write(f" Nobody may take the {self.forbidden}.")

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def people(self) -> tuple[str, ...]:
        return self.world.people

    def write(self, text: str) -> None:
        self.pieces.append(text)

    def _one_of(self, options: list[str]) -> str:
        """Draw without putting back."""
        chosen = self._source.choose(tuple(options))
        options.remove(chosen)
        return chosen

    def _several(self, first: tuple[str, ...], second: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """Four people and their towns, in the order of their arrival."""
        people, towns = list(first), list(second)
        cast: list[str] = []
        homes: list[str] = []
        for opening in (" First came ", ", then ", ", then ", " and last came "):
            cast.append(self._one_of(people))
            homes.append(self._one_of(towns))
            self.write(f"{opening}{cast[-1]} from {homes[-1]}")
        self.write(".")
        return cast, homes

    def part(self, number: int) -> None:
        """One whole part: heading, events, questions."""
        self.heading(number)
        for _ in range(EVENTS_A_PART):
            self.event(self._source.choose(tuple(EVENTS), tuple(EVENTS.values())))
        for _ in range(QUESTIONS_A_PART):
            self.question(self._source.choose(tuple(QUESTIONS), tuple(QUESTIONS.values())))

    def heading(self, number: int) -> None:
        mood, hour = self._source.choose(MOODS), self._source.choose(HOURS)
        self.write(f"\nPart {NUMBERS[number]}: a {mood} {hour}.")

    def event(self, kind: Callable[[Story], None]) -> None:
        """Something happens; ``kind`` is one of the functions in ``EVENTS``."""
        kind(self)

    def question(self, kind: Callable[[Story], tuple[str, str]]) -> None:
        """A question and its answer; ``kind`` is one of the functions in ``QUESTIONS``."""
        asked, answer = kind(self)
        self.write(f" {asked} {answer}.")

    def somebody(self) -> str:
        return self._source.choose(self.people)

    def something(self) -> str:
        return self._source.choose(self.world.things)

    def choose(self, options: tuple[str, ...]) -> str:
        return self._source.choose(options)

    def change(self) -> int:
        """By how many the basket's content changes: taken (-3 to -1) or added (1 to 3), where that is possible."""
        return self._source.choose([n for n in (-3, -2, -1, 1, 2, 3) if 0 <= self.left + n <= _MOST])


def move(story: Story) -> None:
    """Somebody goes elsewhere; where from is known."""
    who = story.somebody()
    where = story.choose(tuple(p for p in story.world.places if p != story.place[who]))
    story.write(f" {who} went from the {story.place[who]} to the {where}.")
    story.place[who] = where


def ask(story: Story) -> None:
    """Somebody asks for a thing; who holds it, and whether it is given, is known."""
    thing = story.something()
    holder = story.holder[thing]
    asker = story.choose(tuple(p for p in story.people if p != holder))
    refused = thing == story.forbidden
    answer = REFUSAL if refused else YES
    story.write(f" For the {thing}, {asker} asked {holder}. {pronoun(holder)} said: {answer}.")
    if not refused:
        story.holder[thing] = asker


def count(story: Story) -> None:
    """Goods are taken or added; how many are left is known."""
    who, change = story.somebody(), story.change()
    story.left += change
    verb, amount = ("took", -change) if change < 0 else ("added", change)
    left = f"{counted(story.left, story.goods)} {be(story.left)}"
    story.write(f" {who} {verb} {counted(amount, story.goods)}. Now {left} left.")


def say(story: Story) -> None:
    """Somebody says a word, which may be asked for later."""
    who, word = story.somebody(), story.choose(SAYINGS)
    story.write(f" {who} said the word {word}.")
    story.said[who] = word


def where(story: Story) -> tuple[str, str]:
    """Where somebody is now."""
    who = story.somebody()
    return f"Q: Where is {who}? A: In the", story.place[who]


def holder(story: Story) -> tuple[str, str]:
    """Who has a thing now."""
    thing = story.something()
    return f"Q: Who has the {thing}? A:", story.holder[thing]


def home(story: Story) -> tuple[str, str]:
    """Which town somebody comes from: said once, in the story's second sentence."""
    who = story.somebody()
    return f"Q: Where does {who} come from? A:", story.town[who]


def how_many(story: Story) -> tuple[str, str]:
    """How many of the goods are left."""
    return f"Q: How many {story.goods[1]} are left? A:", NUMBERS[story.left]


def saying(story: Story) -> tuple[str, str]:
    """Which word somebody said last."""
    who = story.somebody()
    return f"Q: Which word did {who} say? A:", story.said[who]


def after(story: Story) -> tuple[str, str]:
    """Who came next after somebody, in the order of arrival."""
    who = story.choose(story.people[:-1])
    return f"Q: Who came after {who}? A:", story.people[story.people.index(who) + 1]


def may(story: Story) -> tuple[str, str]:
    """Whether a thing may be taken."""
    who, thing = story.somebody(), story.something()
    return f"Q: May {who} take the {thing}? A:", REFUSAL if thing == story.forbidden else YES


EVENTS: dict[Callable[[Story], None], int] = {move: 2, ask: 3, count: 2, say: 1}
QUESTIONS: dict[Callable[[Story], tuple[str, str]], int] = {
    where: 2,
    holder: 2,
    home: 3,
    how_many: 1,
    saying: 1,
    after: 2,
    may: 1,
}


def tell(source: Source) -> Story:
    """A whole story, every choice of it made by ``source``."""
    story = Story(source)
    for number in range(1, story.parts + 1):
        story.part(number)
    return story


def story_of(split: str, *seed: str | int) -> tuple[Story, float]:
    """The story of a seed in a world of that split, and the information in it in nats.

    Worlds of another split are drawn again. The information is that of the generator without this condition: what a
    reader knows who cannot tell the splits apart.
    """
    source = source_of(split, *seed)
    return tell(source), source.nats


def source_of(split: str, *seed: str | int) -> Drawn:
    """Choices that begin with a world of that split."""
    attempt = 0
    while Story(Drawn(split, *seed, attempt)).world.split != split:
        attempt += 1
    return Drawn(split, *seed, attempt)
