"""Multiple-choice tasks over the worlds that no model was trained on: a story so far, and what comes next.

Each item stops a story where one word follows from what was said, and offers that word among others that the same place
could hold. A model answers by the likelihood that it gives to each. Prompts and answers have exactly the form that the
stories have, so nothing but the state of the world has to be understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from gatenorm.demo import tinyworld
from gatenorm.demo.choices import Drawn
from gatenorm.demo.tinyworld import Story, source_of
from gatenorm.demo.words import NUMBERS, REFUSAL, SAYINGS, YES, be

SPLIT = "evaluation"
ITEMS = 80
_STORY_PARTS = 5
_WORD = re.compile(r"\w+|[^\w\s]|\n")


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


Made = tuple[str, tuple[str, ...], str | None]


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    ``make`` writes a story on to where it is asked, and returns (the right word, wrong ones, the sentence that decides
    or ``None``), or ``None`` where this story does not serve. ``parts`` are the whole parts that come first, item by
    item in turn; ``distance`` is the least and the largest allowed, in tokens.
    """

    name: str
    asks: str
    make: Callable[[Story, Drawn, int], Made | None]
    parts: tuple[int, ...] = (0, 1)
    distance: tuple[int, int] | None = None


def token_count(text: str) -> int:
    """How many tokens a text of the tiny world has: a word, a mark or a line's end each."""
    return len(_WORD.findall(text))


def items(kind: Kind, count: int = ITEMS) -> list[Item]:
    """The first ``count`` items of a kind: always the same ones."""
    return [_item(kind, number) for number in range(count)]


def _item(kind: Kind, number: int) -> Item:
    attempt = -1
    while True:
        attempt += 1
        source = source_of(SPLIT, "task", kind.name, number, attempt)
        story = Story(source)
        if story.parts != _STORY_PARTS:
            continue
        before = kind.parts[number % len(kind.parts)]
        for part in range(1, before + 1):
            story.part(part)
        story.heading(before + 1)
        found = kind.make(story, source, number)
        if found is not None:
            answer, others, fact = found
            prompt = story.text
            distance = None if fact is None else token_count(prompt[prompt.rindex(fact) :])
            low, high = kind.distance or (0, 0)
            if kind.distance is None or low <= (distance or 0) <= high:
                candidates, place = list(others), number // 4 % (len(others) + 1)
                candidates.insert(place, answer)
                return Item(kind.name, prompt, tuple(f" {c}" for c in candidates), place, distance)


def _others(options: tuple[str, ...], answer: str) -> tuple[str, ...]:
    return tuple(o for o in options if o != answer)


def _events(story: Story, source: Drawn, count: int) -> None:
    for _ in range(count):
        story.event(source.choose(tuple(tinyworld.EVENTS), tuple(tinyworld.EVENTS.values())))


def _whole_part(story: Story, source: Drawn, questions: int = 0) -> None:
    _events(story, source, tinyworld.EVENTS_A_PART)
    for _ in range(questions):
        story.question(source.choose(tuple(tinyworld.QUESTIONS), tuple(tinyworld.QUESTIONS.values())))


def _ask(story: Story, question: Callable[[Story], tuple[str, str]]) -> tuple[str, str]:
    """Write a question without its answer; returns (the question, its answer)."""
    asked, answer = question(story)
    story.write(f" {asked}")
    return asked, answer


def _cut(story: Story, event: Callable[[Story], None], marker: str) -> str:
    """Write an event up to and with ``marker``; returns what would have followed."""
    story.event(event)
    sentence = story.pieces.pop()
    end = sentence.rindex(marker) + len(marker)
    story.write(sentence[:end])
    return sentence[end:].strip()


def _recall(story: Story, source: Drawn, number: int) -> Made:
    last = story.text.count("\n") == _STORY_PARTS
    _whole_part(story, source, questions=2 if last else number % 3)
    who = story.people[number % 4]
    story.write(f" Q: Where does {who} come from? A:")
    town = story.town[who]
    asked_before = f"Q: Where does {who} come from? A: {town}."
    if asked_before in story.text:
        return town, _others(tuple(story.town.values()), town), asked_before
    return town, _others(tuple(story.town.values()), town), f"{who} from {town}"


def _possession(story: Story, source: Drawn, number: int) -> Made | None:
    first = dict(story.holder)
    _whole_part(story, source)
    asked, answer = _ask(story, tinyworld.holder)
    thing = asked.removeprefix("Q: Who has the ").split("?")[0]
    # Only what has changed hands: else the opening holds the answer.
    return None if first[thing] == answer else (answer, _others(story.people, answer), None)


def _counting(story: Story, source: Drawn, number: int) -> Made:
    _events(story, source, 2)
    _cut(story, tinyworld.count, ". Now")
    near = [n for n in range(len(NUMBERS)) if 1 <= abs(n - story.left) <= 3]
    wrong = [near.pop(source.below(len(near))) for _ in range(3)]
    return NUMBERS[story.left], tuple(NUMBERS[n] for n in wrong), None


def _agreement(story: Story, source: Drawn, number: int) -> Made | None:
    _events(story, source, 2)
    if number % 4 < 2:
        _cut(story, tinyworld.count, story.goods[0])
        text = story.pieces[-1]
        sentence = text[: text.index("Now")] + f"Now {NUMBERS[story.left]} "
        story.pieces[-1] = sentence + (story.goods[0] if story.left == 1 else story.goods[1])
        answer, wanted = be(story.left), ("is", "are")[number % 2]
        options: tuple[str, ...] = ("is", "are")
    else:
        story.event(tinyworld.ask)
        asked, reply = story.pieces.pop().split(". ", 1)
        story.write(asked + ".")
        answer, wanted = reply.split()[0], ("He", "She")[number % 2]
        options = ("He", "She")
    return (answer, _others(options, answer), None) if answer == wanted else None


def _ordering(story: Story, source: Drawn, number: int) -> Made:
    _whole_part(story, source)
    asked, answer = _ask(story, tinyworld.after)
    named = asked.removeprefix("Q: Who came after ").split("?")[0]
    return answer, tuple(p for p in story.people if p not in (answer, named)), None


def _refusal(story: Story, source: Drawn, number: int) -> Made | None:
    _events(story, source, 2)
    answer = _cut(story, tinyworld.ask, " said:").rstrip(".")
    wanted = (YES, REFUSAL)[number % 2]
    return (answer, _others((YES, REFUSAL), answer), None) if answer == wanted else None


def _continuation(story: Story, source: Drawn, number: int) -> Made:
    _events(story, source, 2)
    answer = _cut(story, tinyworld.move, "went from the").split()[0]
    return answer, _others(story.world.places, answer), None


def _speech(story: Story, source: Drawn, number: int) -> Made | None:
    _whole_part(story, source)
    _, answer = _ask(story, tinyworld.saying)
    if answer not in SAYINGS:
        return None
    others = [w for w in SAYINGS if w != answer]
    wrong = [w for w in others if w in story.said.values()]
    unsaid = [w for w in others if w not in wrong]
    while len(wrong) < 3:
        wrong.append(unsaid.pop(source.below(len(unsaid))))
    return answer, tuple(wrong), None


KINDS = (
    Kind("recall-short", "which town somebody comes from, said up to 150 tokens ago", _recall, (0,), (1, 150)),
    Kind("recall-medium", "the same, said 200 to 330 tokens ago", _recall, (2,), (200, 330)),
    Kind("recall-long", "the same, said 400 tokens ago or more, of 512", _recall, (4,), (400, 511)),
    Kind("possession", "who has a thing that has changed hands", _possession),
    Kind("counting", "how many are left when some are taken or added", _counting),
    Kind("agreement", "is or are, he or she", _agreement),
    Kind("ordering", "who came next after somebody", _ordering),
    Kind("refusal", "whether a request is granted or refused as forbidden", _refusal),
    Kind("continuation", "where somebody leaves from", _continuation),
    Kind("speech", "which word somebody said last", _speech),
)
