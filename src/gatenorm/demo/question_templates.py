"""How a story is asked about: one more sentence, cut before the word that what was said decides.

Each function writes that sentence and gives the text so far with the right word and wrong ones, or ``None`` where this
story does not serve. ``number`` is the item's, by which kinds with two answers ask for both equally often.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gatenorm.demo import tinyworld
from gatenorm.demo.sampler import Drawn
from gatenorm.demo.tinyworld import Story
from gatenorm.demo.words import ALLOWED, FORBIDDEN, NUMBERS, PEOPLE


@dataclass(frozen=True)
class Asked:
    """A story cut before a word: the ``prompt``, the right word, wrong ones, and the words that decide, if any do."""

    prompt: str
    answer: str
    others: tuple[str, ...]
    fact: str | None = None


def _cut(story: Story, sentence: Callable[[Story], None], cut: str) -> tuple[str, str]:
    """Write a sentence and cut it behind what matches ``cut``; returns (the text so far, the word that followed)."""
    begin = len(story.text)
    sentence(story)
    found = re.compile(cut).search(story.text, begin)
    assert found is not None
    return found.string[: found.end()], found.string[found.end() :].split()[0].rstrip(".")


def _others(options: Iterable[str], *named: str) -> tuple[str, ...]:
    return tuple(o for o in options if o not in named)


def recall(story: Story, _: Drawn, __: int) -> Asked:
    """Somebody's family name."""
    prompt, family = _cut(story, tinyworld.who, r"\? \w+")
    who = prompt.split()[-1]
    return Asked(prompt, family, _others(story.family.values(), family), f"{who} {family}")


def place(story: Story, _: Drawn, __: int) -> Asked | None:
    """Which town somebody is in who has moved."""
    first = dict(re.findall(r"(\w+) reached (\w+)\.", story.opening))
    prompt, town = _cut(story, tinyworld.where, r"\? \w+ reached")
    # Only where somebody has moved to: else the opening holds the answer.
    return None if first[prompt.split()[-2]] == town else Asked(prompt, town, _others(story.world.towns, town))


def possession(story: Story, _: Drawn, __: int) -> Asked | None:
    """Who has a thing that has changed hands."""
    if not story.holder:
        return None
    prompt, holder = _cut(story, tinyworld.holder, r"\? The \w+ reached")
    # Only what has changed hands: else only one person was ever named with it.
    return Asked(prompt, holder, _others(story.people, holder)) if f"The {prompt.split()[-2]} left" in prompt else None


def counting(story: Story, source: Drawn, _: int) -> Asked:
    """How many are left after the next change."""
    before = story.left
    prompt, left = _cut(story, tinyworld.count, " Now")
    return Asked(prompt, left, _other_numbers(story, source), f"Now {NUMBERS[before]}")


def agreement(story: Story, _: Drawn, number: int) -> Asked | None:
    """``is`` or ``are`` after a number, ``He`` or ``She`` after a name."""
    if number % 4 < 2:
        prompt, word = _cut(story, tinyworld.count, r" Now \w+")
        options = ("is", "are")
    else:
        prompt, word = _cut(story, tinyworld.meet, r"met \w+ \w+\.")
        options = ("He", "She")
    return Asked(prompt, word, _others(options, word)) if word == options[number % 2] else None


def ordering(story: Story, _: Drawn, __: int) -> Asked:
    """Who came next after somebody."""
    prompt, following = _cut(story, tinyworld.after, r"\? After \w+ came")
    return Asked(prompt, following, _others(story.people, following, prompt.split()[-2]))


def refusal(story: Story, _: Drawn, number: int) -> Asked | None:
    """Whether what is asked for is allowed or forbidden."""
    prompt, rule = _cut(story, tinyworld.ask, r"\. The \w+ is")
    options = (ALLOWED, FORBIDDEN)
    return Asked(prompt, rule, _others(options, rule)) if rule == options[number % 2] else None


def continuation(story: Story, _: Drawn, __: int) -> Asked:
    """Which town somebody leaves."""
    prompt, town = _cut(story, tinyworld.move, r" \w+ left")
    return Asked(prompt, town, _others(story.world.towns, town))


def law(story: Story, source: Drawn, number: int) -> Asked | None:
    """As :func:`refusal`, with the sentence that decides."""
    asked = refusal(story, source, number)
    return asked and replace(asked, fact=f"The {asked.prompt.split()[-2]} is {asked.answer}")


def member(story: Story, source: Drawn, number: int) -> Asked:
    """Who may come next, or be met: of those offered only one is in the story at all."""
    if number % 2:
        prompt, who = _cut(story, tinyworld.meet, r" met")
    else:
        prompt, who = story.text, source.choose(story.people)
    strangers = [p for p in PEOPLE if p not in story.people]
    return Asked(prompt, who, tuple(strangers.pop(source.below(len(strangers))) for _ in range(3)))


def reply(story: Story, _: Drawn, number: int) -> Asked | None:
    """What is said of a thing when it was asked for and when it was asked who has it."""
    if number % 2:
        if not story.holder:
            return None
        prompt, word = _cut(story, tinyworld.holder, r"\? The \w+")
    else:
        prompt, word = _cut(story, tinyworld.ask, r"\. The \w+")
    return Asked(prompt, word, _others(("is", "reached", "left"), word))


def enough(story: Story, _: Drawn, number: int) -> Asked:
    """Whether another thing is to be named or all have been: the opening names as many in every story."""
    named = 2 * len(story.people) + len(story.world.things)
    context, rest = story.pieces[: named - 1 + number % 2], story.pieces[named - 1 + number % 2]
    word = rest.split()[0]
    return Asked("".join(context), word, _others(("The", "Now"), word))


def _other_numbers(story: Story, source: Drawn) -> tuple[str, ...]:
    """Three numbers near the right one."""
    near = [n for n in range(len(NUMBERS)) if 1 <= abs(n - story.left) <= 3]
    return tuple(NUMBERS[near.pop(source.below(len(near)))] for _ in range(3))
