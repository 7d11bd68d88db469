"""Reading a story back: which choices made this text, and how probable it was, from the text alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from gatenorm.demo.sampler import Drawn
from gatenorm.demo.tinyworld import Story, go_on

T = TypeVar("T")


class NotChosenError(Exception):
    """A choice that :class:`Replayed` was not told of; ``probabilities`` has one number an option."""

    def __init__(self, probabilities: tuple[float, ...]):
        super().__init__(f"{len(probabilities)} options")
        self.probabilities = probabilities


class Recorded(Drawn):
    """Choices with a note of which option each of them was."""

    def __init__(self, *seed: str | int):
        super().__init__(*seed)
        self.indices: list[int] = []

    def choose(self, options: Sequence[T], weights: Sequence[int] | None = None) -> T:
        chosen = super().choose(options, weights)
        self.indices.append(options.index(chosen))
        return chosen


class Replayed:
    """Choices as given beforehand, by index; the first one beyond them raises :class:`NotChosenError`."""

    def __init__(self, indices: Sequence[int]):
        self._indices = indices
        self._next = 0

    def choose(self, options: Sequence[T], weights: Sequence[int] | None = None) -> T:
        """The option that was named beforehand."""
        if self._next == len(self._indices):
            total = len(options) if weights is None else sum(weights)
            raise NotChosenError(tuple(w / total for w in (weights or [1] * len(options))))
        self._next += 1
        return options[self._indices[self._next - 1]]


def derivations(text: str, whole: bool = True) -> list[float]:
    """The information in nats of every way in which the generator can come to write ``text``.

    For a text that the generator can write there is exactly one way (the tests hold it to that): choices and texts
    correspond one to one, so a story's probability is the product over its choices.

    Args:
        whole: the text is a whole story; otherwise a beginning that ends with a sentence.
    """
    found: list[float] = []
    open_ends: list[tuple[list[int], float]] = [([], 0.0)]
    while open_ends:
        so_far, information = open_ends.pop()
        written, probabilities = _replay(so_far)
        if written == text and (probabilities is None or not whole):
            found.append(information)
        elif probabilities is not None and text.startswith(written):
            open_ends += [([*so_far, i], information - math.log(p)) for i, p in enumerate(probabilities)]
    return found


def _replay(indices: list[int]) -> tuple[str, tuple[float, ...] | None]:
    """The text that these choices give, and the probabilities of the next choice (``None`` after the last)."""
    story = Story.__new__(Story)
    try:
        story.__init__(Replayed(indices))  # type: ignore[misc]
        while go_on(story):
            pass
    except NotChosenError as stop:
        return story.text, stop.probabilities
    return story.text, None
