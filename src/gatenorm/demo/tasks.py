"""Multiple-choice tasks over the worlds that no model was trained on: a story so far, and what comes next.

Each item stops a story where one word follows from what was said, and offers that word among others that the same place
could hold. A model answers by the likelihood that it gives to each. Prompts and answers have exactly the form that the
stories have, so nothing but the state of the world has to be understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gatenorm.demo import tinyworld
from gatenorm.demo.choices import Drawn
from gatenorm.demo.tinyworld import SENTENCES, Story, source_of, token_count
from gatenorm.demo.words import ALLOWED, FORBIDDEN, NUMBERS

SPLIT = "evaluation"
ITEMS = 80


@dataclass(frozen=True)
class Item:
    """One question: which of ``candidates`` goes on from ``prompt``; ``answer`` is the right one's index.

    ``distance`` counts the tokens from the fact that decides to the end of the prompt, where one sentence decides.
    """

    kind: str
    prompt: str
    candidates: tuple[str, ...]
    answer: int
    distance: int | None = None

    @property
    def chance(self) -> float:
        return 1 / len(self.candidates)


@dataclass(frozen=True)
class Asked:
    """A story cut before a word: the ``prompt``, the right word, wrong ones, and the words that decide, if any do."""

    prompt: str
    answer: str
    others: tuple[str, ...]
    fact: str | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    ``ask`` writes one more sentence and cuts it, or returns ``None`` where this story does not serve. ``told`` is how
    long the story before it is, in tokens, between a least and a most; ``distance`` the least and most allowed from the
    fact that decides; ``without`` the sentences that the story does without.
    """

    name: str
    asks: str
    ask: Callable[[Story, Drawn, int], Asked | None]
    told: tuple[int, int] = (70, 150)
    distance: tuple[int, int] | None = None
    without: tuple[Callable[[Story], None], ...] = ()


def items(kind: Kind, count: int = ITEMS) -> list[Item]:
    """The first ``count`` items of a kind: always the same ones."""
    return [_item(kind, number) for number in range(count)]


def _item(kind: Kind, number: int) -> Item:
    attempt = 0
    while True:
        asked = _asked(kind, number, attempt)
        attempt += 1
        if asked is None:
            continue
        distance = None if asked.fact is None else token_count(asked.prompt[asked.prompt.rindex(asked.fact) :])
        if kind.distance is None or kind.distance[0] <= (distance or 0) <= kind.distance[1]:
            candidates, place = list(asked.others), number // 4 % (len(asked.others) + 1)
            candidates.insert(place, asked.answer)
            return Item(kind.name, asked.prompt, tuple(f" {c}" for c in candidates), place, distance)


def _asked(kind: Kind, number: int, attempt: int) -> Asked | None:
    """A story told to some length, and what is asked there."""
    source = source_of(SPLIT, "task", kind.name, number, attempt)
    story = Story(source)
    least, most = kind.told
    length = least + source.below(most - least)
    while story.length < length:
        possible = [s for s in tinyworld.possible(story) if s is not tinyworld.end and s not in kind.without]
        source.choose(possible, [SENTENCES[s] for s in possible])(story)
    return None if story.full else kind.ask(story, source, number)


def _cut(story: Story, sentence: Callable[[Story], None], cut: str) -> tuple[str, str]:
    """Write a sentence and cut it behind what matches ``cut``; returns (the text so far, the word that followed)."""
    begin = len(story.text)
    sentence(story)
    found = re.compile(cut).search(story.text, begin)
    assert found is not None
    return found.string[: found.end()], found.string[found.end() :].split()[0].rstrip(".")


def _others(options: Iterable[str], *named: str) -> tuple[str, ...]:
    return tuple(o for o in options if o not in named)


def _recall(story: Story, _: Drawn, __: int) -> Asked:
    prompt, family = _cut(story, tinyworld.who, r"\? \w+")
    who = prompt.split()[-1]
    return Asked(prompt, family, _others(story.family.values(), family), f"{who} {family}")


def _place(story: Story, _: Drawn, __: int) -> Asked | None:
    first = dict(re.findall(r"(\w+) reached (\w+)\.", story.opening))
    prompt, town = _cut(story, tinyworld.where, r"\? \w+ reached")
    # Only where somebody has moved to: else the opening holds the answer.
    return None if first[prompt.split()[-2]] == town else Asked(prompt, town, _others(story.world.towns, town))


def _possession(story: Story, _: Drawn, __: int) -> Asked | None:
    if not story.holder:
        return None
    prompt, holder = _cut(story, tinyworld.holder, r"\? The \w+ reached")
    # Only what has changed hands: else only one person was ever named with it.
    return Asked(prompt, holder, _others(story.people, holder)) if f"The {prompt.split()[-2]} left" in prompt else None


def _counting(story: Story, source: Drawn, _: int) -> Asked:
    prompt, left = _cut(story, tinyworld.count, " Now")
    near = [n for n in range(len(NUMBERS)) if 1 <= abs(n - story.left) <= 3]
    wrong = [near.pop(source.below(len(near))) for _ in range(3)]
    return Asked(prompt, left, tuple(NUMBERS[n] for n in wrong))


def _agreement(story: Story, _: Drawn, number: int) -> Asked | None:
    if number % 4 < 2:
        prompt, word = _cut(story, tinyworld.count, r" Now \w+")
        options = ("is", "are")
    else:
        prompt, word = _cut(story, tinyworld.meet, r"met \w+ \w+\.")
        options = ("He", "She")
    return Asked(prompt, word, _others(options, word)) if word == options[number % 2] else None


def _ordering(story: Story, _: Drawn, __: int) -> Asked:
    prompt, following = _cut(story, tinyworld.after, r"\? After \w+ came")
    return Asked(prompt, following, _others(story.people, following, prompt.split()[-2]))


def _refusal(story: Story, _: Drawn, number: int) -> Asked | None:
    prompt, rule = _cut(story, tinyworld.ask, r"\. The \w+ is")
    options = (ALLOWED, FORBIDDEN)
    return Asked(prompt, rule, _others(options, rule)) if rule == options[number % 2] else None


def _continuation(story: Story, _: Drawn, __: int) -> Asked:
    prompt, town = _cut(story, tinyworld.move, r" \w+ left")
    return Asked(prompt, town, _others(story.world.towns, town))


# Nobody meets in the stories of recall: there family names would be said too often to lie far back.
KINDS = (
    Kind("recall-short", "somebody's family name, last said up to 150 tokens ago", _recall, (65, 140), (1, 150)),
    Kind(
        "recall-medium", "the same, 200 to 330 tokens ago", _recall, (230, 340), (200, 330), without=(tinyworld.meet,)
    ),
    Kind("recall-long", "the same, 400 tokens ago or more, of 512", _recall, (420, 500), (400, 511), (tinyworld.meet,)),
    Kind("place", "which town somebody who has moved is in", _place),
    Kind("possession", "who has a thing that has changed hands", _possession),
    Kind("counting", "how many are left when some are taken or added", _counting),
    Kind("agreement", "is or are, he or she", _agreement),
    Kind("ordering", "who came next after somebody", _ordering),
    Kind("refusal", "whether a request is allowed or forbidden", _refusal),
    Kind("continuation", "which town somebody leaves", _continuation),
)
