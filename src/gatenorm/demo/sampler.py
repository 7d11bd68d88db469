"""Where the tiny world's choices come from: a seeded draw.

Every random choice of the generator goes through one method, ``choose``, with whole-number weights. So the probability
of each choice is an exact fraction, and the information in a story, ``-log p(story)`` in nats, is a sum over its
choices. Nothing of Python's ``random`` is used: its methods may change between versions, these few lines do not.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
_MASK = (1 << 64) - 1


class Drawn:
    """Choices drawn by a seeded generator (splitmix64), with the information in them added up.

    ``nats`` is the sum of ``-log p`` over all choices so far.
    """

    def __init__(self, *seed: str | int):
        text = "/".join(map(str, seed))
        self._state = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        self.nats = 0.0

    def below(self, bound: int) -> int:
        """A whole number from 0 to ``bound - 1``, all equally likely (to within ``bound`` in 2^64)."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((mixed ^ (mixed >> 31)) * bound) >> 64

    def choose(self, options: Sequence[T], weights: Sequence[int] | None = None) -> T:
        """Draw one of ``options``, of which none may occur twice, and count the information in it.

        Equal weights where none are given.
        """
        if weights is None:
            index = self.below(len(options))
            self.nats += math.log(len(options))
        else:
            rest = self.below(sum(weights))
            index = 0
            while rest >= weights[index]:
                rest -= weights[index]
                index += 1
            self.nats -= math.log(weights[index] / sum(weights))
        return options[index]
