"""Items that take several steps: brackets to close, sums to carry on, words to copy, problems to work out.

Each is written by code from a fixed seed, so that every model gets the same ones and none can have been trained on. A
prompt shows how it is done; of four continuations of one form one is right, and the others go wrong in one step and
carry the mistake on.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

CANDIDATES = 4
_PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_WORDS = (
    *("apple", "river", "stone", "lamp", "cloud", "chair", "paper", "horse", "glass", "bread"),
    *("garden", "window", "silver", "winter", "bridge", "market", "letter", "button"),
    *("ladder", "basket", "candle", "forest", "hammer", "island", "jacket", "kettle"),
)
_NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry"]
_THINGS = ["apples", "books", "coins", "cards", "eggs", "pencils", "stamps", "shells"]
_MISTAKES = (-10, -3, -2, -1, 1, 2, 3, 10)


@dataclass(frozen=True)
class Item:
    """A prompt that breaks off, what could follow, and the index of what is right."""

    prompt: str
    candidates: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Kind:
    """A kind of item: ``make`` writes a prompt, the right continuation and three wrong ones."""

    name: str
    asks: str
    make: Callable[[random.Random], tuple[str, str, Sequence[str]]]


@cache
def items(kind: Kind, count: int) -> tuple[Item, ...]:
    """The first ``count`` items of a kind: always the same ones."""
    return tuple(_item(kind, number) for number in range(count))


def _item(kind: Kind, number: int) -> Item:
    draw = random.Random(f"gatenorm multistep {kind.name} {number}")
    prompt, right, wrong = kind.make(draw)
    place = number % CANDIDATES
    candidates = list(wrong)
    candidates.insert(place, right)
    return Item(prompt, tuple(f" {one}" for one in candidates), place)


def brackets(draw: random.Random) -> tuple[str, str, Sequence[str]]:
    """Three to five brackets are open: they close in the reverse order, where wrong ones swap two or change one."""
    shown = [" ".join(_opened(draw, 3, closed=True)[0]) for _ in range(4)]
    text, still = _opened(draw, draw.randint(3, 5))
    right = [_PAIRS[bracket] for bracket in reversed(still)]

    def mistaken() -> str:
        ends = list(right)
        first, second = draw.sample(range(len(ends)), 2)
        if ends[first] == ends[second] or draw.random() < 0.5:
            ends[first] = draw.choice([end for end in _PAIRS.values() if end != ends[first]])
        else:
            ends[first], ends[second] = ends[second], ends[first]
        return " ".join(ends)

    prompt = "Every bracket is closed in the right order:\n" + "\n".join((*shown, " ".join(text)))
    return prompt, " ".join(right), _different(mistaken, " ".join(right))


def _opened(draw: random.Random, depth: int, closed: bool = False) -> tuple[list[str], list[str]]:
    """Brackets with so many still open, and those; or all of them closed again."""
    text: list[str] = []
    still: list[str] = []
    while len(still) < depth:
        if still and text[-1] in _PAIRS and draw.random() < 0.35:
            text.append(_PAIRS[still.pop()])
        else:
            still.append(draw.choice(list(_PAIRS)))
            text.append(still[-1])
    return (text + [_PAIRS[bracket] for bracket in reversed(still)], []) if closed else (text, still)


def arithmetic(draw: random.Random) -> tuple[str, str, Sequence[str]]:
    """A sum of four numbers, one step at a time; wrong ones miscount one step and go on from there."""
    shown = [_sum(draw) for _ in range(2)]
    start, terms = _sum(draw)
    lines = [f"{_chain(start, terms)} = {_steps(start, terms)}" for start, terms in shown]
    prompt = "\n".join((*lines, f"{_chain(start, terms)} ="))

    def mistaken() -> str:
        return _steps(start, terms, draw.randrange(len(terms)), draw.choice(_MISTAKES))

    right = _steps(start, terms)
    return prompt, right, _different(mistaken, right)


def _sum(draw: random.Random) -> tuple[int, list[int]]:
    """A number and three to add or take away, so that every total, and every one that is off, has two digits."""
    while True:
        start, terms = draw.randint(21, 70), [draw.choice((1, -1)) * draw.randint(2, 9) for _ in range(3)]
        totals = [start + sum(terms[:n]) for n in range(4)]
        if all(20 <= total <= 89 for total in totals):
            return start, terms


def _chain(start: int, terms: Sequence[int]) -> str:
    return " ".join((str(start), *(f"{'+' if term > 0 else '-'} {abs(term)}" for term in terms)))


def _steps(start: int, terms: Sequence[int], wrong: int = -1, by: int = 0) -> str:
    """Every step in turn, the one at ``wrong`` off ``by`` so much: ``22 - 3 + 4 = 19 + 4 = 23``."""
    parts, total = [], start
    for n, term in enumerate(terms):
        total += term + (by if n == wrong else 0)
        parts.append(_chain(total, terms[n + 1 :]))
    return " = ".join(parts)


def copying(draw: random.Random) -> tuple[str, str, Sequence[str]]:
    """Twelve words once more, of which four are there already; wrong ones swap two or take one from elsewhere."""
    words = draw.sample(_WORDS, 12)
    rest = words[4:]

    def mistaken() -> str:
        copied = list(rest)
        first, second = draw.sample(range(1, len(copied)), 2)
        if draw.random() < 0.5:
            copied[first], copied[second] = copied[second], copied[first]
        else:
            copied[first] = draw.choice([word for word in _WORDS if word not in words])
        return " ".join(copied)

    prompt = f"{' '.join(words)}\n{' '.join(words[:4])}"
    return prompt, " ".join(rest), _different(mistaken, " ".join(rest))


def word_problems(draw: random.Random) -> tuple[str, str, Sequence[str]]:
    """A question of two steps, worked out; wrong ones take the other operation or miscount, and go on from there."""
    shown = _problem(draw)
    question, numbers, signs = _problem(draw)

    def mistaken() -> str:
        other, step = list(signs), draw.randrange(2)
        if draw.random() < 0.5:
            other[step] = -other[step]
            return _worked(numbers, other)
        return _worked(numbers, signs, step, draw.choice(_MISTAKES))

    prompt = f"Question: {shown[0]}\nAnswer: {_worked(*shown[1:])}\n\nQuestion: {question}\nAnswer:"
    return prompt, _worked(numbers, signs), _different(mistaken, _worked(numbers, signs))


_EVENTS = {
    1: ("{name} buys {n} more", "{name} finds {n} more", "{other} gives {name} {n} more"),
    -1: ("{name} gives {n} to {other}", "{name} loses {n}", "{name} sells {n}"),
}


def _problem(draw: random.Random) -> tuple[str, list[int], list[int]]:
    name, other = draw.sample(_NAMES, 2)
    thing, signs = draw.choice(_THINGS), [draw.choice((1, -1)) for _ in range(2)]
    numbers = [draw.randint(40, 70), draw.randint(2, 9), draw.randint(2, 9)]
    first, second = (
        draw.choice(_EVENTS[sign]).format(name=name, other=other, n=n)
        for sign, n in zip(signs, numbers[1:], strict=True)
    )
    text = f"{name} has {numbers[0]} {thing}. {first}. Then {second}. How many {thing} does {name} have now?"
    return text, numbers, signs


def _worked(numbers: Sequence[int], signs: Sequence[int], wrong: int = -1, by: int = 0) -> str:
    """``52 + 4 = 56. 56 - 3 = 53. The answer is 53.``, the step at ``wrong`` off ``by`` so much."""
    total, steps = numbers[0], []
    for n, (number, sign) in enumerate(zip(numbers[1:], signs, strict=True)):
        before, total = total, total + sign * number + (by if n == wrong else 0)
        steps.append(f"{before} {'+' if sign > 0 else '-'} {number} = {total}.")
    return f"{' '.join(steps)} The answer is {total}."


def _different(make: Callable[[], str], right: str) -> list[str]:
    """Three continuations that differ from the right one and from each other."""
    made: dict[str, None] = {}
    while len(made) < CANDIDATES - 1:
        one = make()
        if one != right:
            made[one] = None
    return list(made)


KINDS = (
    Kind("brackets", "how open brackets are closed", brackets),
    Kind("arithmetic", "a sum of four numbers, step by step", arithmetic),
    Kind("copying", "a list of words once more", copying),
    Kind("word-problems", "a question of two steps, worked out", word_problems),
)
