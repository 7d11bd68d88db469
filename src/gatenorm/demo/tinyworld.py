"""The tiny world: English-like stories about people, places, things and amounts, whose every sentence has a cause.

A story opens with four people, who come one after the other, the town that each has reached, three things of which each
is allowed or forbidden, and how many of some goods there are. Then things happen and are asked for, sentence by
sentence, until the story ends or its 512 tokens are full. Whatever follows from what was said before (a family name,
the town that somebody leaves, who a thing leaves, how many are left, what is forbidden, every answer) is never a
choice, so predicting it takes recall.

The language is made for small models: a fact is always said in the same words, with what it is about one or two words
before what is said of it (``Mary Fox``, ``Mary reached Rome``, ``the key reached Ben``, ``the key is forbidden``,
``After Mary came Ben``), and it is asked for in the same words again.

A *world* is the set of a story's people, towns and things. A hash of it says which split it belongs to, so no story of
the evaluation's worlds can ever be trained on, whatever seeds are used.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gatenorm.demo.sampler import Drawn
from gatenorm.demo.words import (
    ALLOWED,
    DEEDS,
    FAMILIES,
    FORBIDDEN,
    GOODS,
    HOURS,
    MOODS,
    NUMBERS,
    PEOPLE,
    THINGS,
    TOWNS,
    be,
    pronoun,
)

END = "<|endoftext|>"
CONTEXT = 512
CAST, PROPS = 4, 3
# No sentence has more tokens: nothing is begun that might not fit before the end token.
LONGEST = 11
_MOST = len(NUMBERS) - 1
_WORD = re.compile(r"\w+|[^\w\s]|\n")
# Of eight worlds one is for evaluation, one to watch the training by, six are trained on.
_SPLITS = ("evaluation", "watch", "train", "train", "train", "train", "train", "train")
T = TypeVar("T")


def token_count(text: str) -> int:
    """How many tokens a text of the tiny world has: a word, a mark or a line's end each."""
    return len(_WORD.findall(text))


@dataclass(frozen=True)
class World:
    """What a story is about, in the order of its mention."""

    people: tuple[str, ...]
    towns: tuple[str, ...]
    things: tuple[str, ...]

    @property
    def split(self) -> str:
        """``train``, ``watch`` or ``evaluation``: decided by the world's sets alone, not by their order."""
        names = ",".join(sorted(self.people + self.towns + self.things))
        return _SPLITS[hashlib.sha256(names.encode()).digest()[0] % len(_SPLITS)]


class Story:
    """A story in the making: its text so far, and the state of its world that the text implies.

    The opening is written at once: ``cast`` people come, and ``props`` things are allowed or forbidden; training rows
    have always as many as the defaults say. Attributes: ``family`` (person -> family name), ``place`` (person -> town),
    ``rule`` (thing -> allowed or forbidden), ``holder`` (thing -> person, once it has reached one), ``goods`` and
    ``left`` (how many there are).
    """

    def __init__(self, source: Drawn, cast: int = CAST, props: int = PROPS):
        self._source = source
        self.pieces: list[str] = []
        self.length = 0
        self.family: dict[str, str] = {}
        self.holder: dict[str, str] = {}
        people, families = list(PEOPLE), list(FAMILIES)
        opening = "First"
        for _ in range(cast):
            who = self._one_of(people)
            self.family[who] = self._one_of(families)
            self.write(f"{opening} came {who} {self.family[who]}.")
            opening = f" After {who}"
        towns, things = list(TOWNS), list(THINGS)
        self.place: dict[str, str] = {}
        for who in self.family:
            self.place[who] = self._one_of(towns)
            self.write(f" {who} reached {self.place[who]}.")
        self.rule: dict[str, str] = {}
        for _ in range(props):
            thing = self._one_of(things)
            self.rule[thing] = self.choose((ALLOWED, FORBIDDEN))
            self.write(f" The {thing} is {self.rule[thing]}.")
        self.world = World(tuple(self.family), tuple(self.place.values()), tuple(self.rule))
        self.goods = self.choose(GOODS)
        self.left = self.choose(range(3, 10))
        self.write(f" Now {NUMBERS[self.left]} {self.goods} are left.")

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def opening(self) -> str:
        """What is said before the first sentence that is free."""
        return "".join(self.pieces[: 2 * len(self.world.people) + len(self.world.things) + 1])

    @property
    def people(self) -> tuple[str, ...]:
        """The cast, in the order in which they came."""
        return self.world.people

    @property
    def full(self) -> bool:
        """Whether the next sentence might not fit."""
        return self.length + LONGEST >= CONTEXT

    def write(self, text: str) -> None:
        self.pieces.append(text)
        self.length += token_count(text)

    def choose(self, options: Sequence[T], weights: Sequence[int] | None = None) -> T:
        return self._source.choose(options, weights)

    def _one_of(self, options: list[str]) -> str:
        """Draw without putting back."""
        chosen = self.choose(tuple(options))
        options.remove(chosen)
        return chosen

    def somebody(self, *others: str) -> str:
        """One of the cast other than those named."""
        return self.choose(tuple(p for p in self.people if p not in others))

    def something(self) -> str:
        return self.choose(self.world.things)

    def change(self) -> int:
        """By how many the goods change: taken (-3 to -1) or added (1 to 3), where that is possible."""
        return self.choose([n for n in (-3, -2, -1, 1, 2, 3) if 0 <= self.left + n <= _MOST])


def move(story: Story) -> None:
    """Somebody goes elsewhere; where from is known."""
    who = story.somebody()
    old = story.place[who]
    story.place[who] = story.choose(tuple(t for t in story.world.towns if t != old))
    story.write(f" {who} left {old}. {who} reached {story.place[who]}.")


def hand(story: Story) -> None:
    """A thing goes to somebody; who had it, if anybody, is known."""
    thing = story.something()
    old = story.holder.get(thing, "")
    story.holder[thing] = story.somebody(old)
    story.write((f" The {thing} left {old}." if old else "") + f" The {thing} reached {story.holder[thing]}.")


def meet(story: Story) -> None:
    """Somebody meets somebody; their family names, and he or she, are known."""
    who = story.somebody()
    other, deed = story.somebody(who), story.choose(DEEDS)
    story.write(f" {who} {story.family[who]} met {other} {story.family[other]}. {pronoun(who)} {deed}.")


def count(story: Story) -> None:
    """Goods are taken or added; how many are left is known."""
    who, change = story.somebody(), story.change()
    story.left += change
    verb = "took" if change < 0 else "added"
    story.write(f" {who} {verb} {NUMBERS[abs(change)]}. {_left(story)}")


def ask(story: Story) -> None:
    """Somebody asks for a thing; whether it is allowed is known."""
    who, thing = story.somebody(), story.something()
    story.write(f" {who} asked for the {thing}. The {thing} is {story.rule[thing]}.")


def scene(story: Story) -> None:
    """A new scene."""
    mood, hour = story.choose(MOODS), story.choose(HOURS)
    story.write(f"\nA {mood} {hour}.")


def who(story: Story) -> None:
    """Who somebody is: the family name was said in the opening, and whenever they met somebody."""
    person = story.somebody()
    story.write(f" Who is {person}? {person} {story.family[person]}.")


def where(story: Story) -> None:
    """Where somebody is now."""
    person = story.somebody()
    story.write(f" Where is {person}? {person} reached {story.place[person]}.")


def holder(story: Story) -> None:
    """Who has a thing now."""
    thing = story.choose(tuple(story.holder))
    story.write(f" Who has the {thing}? The {thing} reached {story.holder[thing]}.")


def after(story: Story) -> None:
    """Who came next after somebody."""
    person = story.choose(story.people[:-1])
    following = story.people[story.people.index(person) + 1]
    story.write(f" Who came after {person}? After {person} came {following} {story.family[following]}.")


def how_many(story: Story) -> None:
    """How many of the goods are left."""
    story.write(f" How many are left? {_left(story)}")


def _left(story: Story) -> str:
    return f"Now {NUMBERS[story.left]} {be(story.left)} left."


def end(story: Story) -> None:
    """Nothing more happens."""


SENTENCES: dict[Callable[[Story], None], int] = {
    move: 12,
    hand: 12,
    meet: 12,
    count: 8,
    ask: 8,
    scene: 3,
    who: 8,
    where: 6,
    holder: 6,
    after: 6,
    how_many: 2,
    end: 1,
}


def go_on(story: Story) -> bool:
    """Write a sentence; returns whether another may follow."""
    if story.full:
        return False
    kinds = possible(story)
    kind = story.choose(kinds, [SENTENCES[kind] for kind in kinds])
    kind(story)
    return kind is not end


def possible(story: Story) -> list[Callable[[Story], None]]:
    """The sentences that may come next: who has a thing is asked only when somebody has one."""
    return [kind for kind in SENTENCES if kind is not holder or story.holder]


def tell(source: Drawn) -> Story:
    """A whole story, every choice of it made by ``source``."""
    story = Story(source)
    while go_on(story):
        pass
    return story


def story_of(split: str, *seed: str | int) -> tuple[Story, float]:
    """The story of a seed in a world of that split, and the information in it in nats.

    Worlds of another split are drawn again. The information is that of the generator without this condition: what a
    reader knows who cannot tell the splits apart.
    """
    source = source_of(split, *seed)
    return tell(source), source.nats


def source_of(split: str, *seed: str | int, cast: int = CAST, props: int = PROPS) -> Drawn:
    """Choices that begin with a world of that split."""
    attempt = 0
    while Story(Drawn(split, *seed, attempt), cast, props).world.split != split:
        attempt += 1
    return Drawn(split, *seed, attempt)
