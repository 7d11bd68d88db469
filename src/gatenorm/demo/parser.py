"""Reading a story back: which choices made this text, and how probable it was, from the text alone."""

from __future__ import annotations

import math

from gatenorm.demo.sampler import NotChosenError, Replayed
from gatenorm.demo.tinyworld import Story, go_on


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
