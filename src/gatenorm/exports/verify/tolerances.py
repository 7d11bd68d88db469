"""How far a stored type, and an engine that computes in it, may be from the reference."""

import dataclasses
import math
from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint.dtypes import Float32


@dataclass(frozen=True)
class Rounding:
    """How far a type may move a row ``w``: ``|w' - w| <= relative * |w| + absolute * sqrt(len(w))``.

    ``relative`` is the worst case within one block: one number as large as it gets, all others half a step off
    (``sqrt(block) / 2`` steps, of which the large one is ``levels``; ``levels / sqrt(2)`` where a block has a minimum
    of its own). Ordinary rows move by less than half of that, a wrong tensor's by 1.4. ``absolute`` is what
    half-precision scales lose next to zero, ``2**-25`` for every step that a number may be away from it.
    """

    relative: float
    absolute: float

    def limit(self, rows: Float32) -> npt.NDArray[np.float64]:
        """The most that each of the ``rows`` may have moved, as a Euclidean distance."""
        lengths = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=-1))
        found: npt.NDArray[np.float64] = self.relative * lengths + self.absolute * math.sqrt(rows.shape[-1])
        return found


def _blocks(size: int, levels: float, steps: int) -> Rounding:
    # A sixteenth on top, for scales that are rounded themselves.
    return Rounding(17 / 16 * math.sqrt(size) / 2 / levels, steps * 2.0**-25)


ROUNDING = {
    "F32": Rounding(1e-6, 0.0),  # others may have computed a factor of the rope scaling in single precision
    "F16": Rounding(2.0**-11, 2.0**-25),
    "BF16": Rounding(2.0**-8, 0.0),
    "Q8_0": _blocks(32, 127, 127),
    "Q6_K": _blocks(16, 32, 32 * 128),
    "Q5_K": _blocks(32, 31 / math.sqrt(2), 32 * 63),
    "Q4_K": _blocks(32, 15 / math.sqrt(2), 16 * 63),
    "Q5_0": _blocks(32, 16, 16),
    "Q5_1": _blocks(32, 31 / math.sqrt(2), 32),
    "Q4_0": _blocks(32, 8, 8),
    "Q4_1": _blocks(32, 15 / math.sqrt(2), 16),
}


@dataclass(frozen=True)
class Limit:
    """What is put down to arithmetic: ``most`` of the figure ``of``.

    ``near_tie``: two log-probabilities (nats) closer than this may change places, and neither choice is wrong then.
    ``reference`` says whose tensors the reference computes with.
    """

    of: str
    most: float
    near_tie: float
    reference: str = "the source's tensors"


_OWN = "the file's own tensors"
EXACT = Limit("largest_difference", 1e-3, 2e-3)
# By the type that the weights lie in: llama.cpp rounds what it multiplies them with to that type, or to 8 bits. Largest
# figures of right files (five prunings of three trained models): 0.0058 for Q8_0, 0.013 and near ties of 0.51 for the
# others. A wrong tensor is found by the comparison of tensors; with two of one layer exchanged the divergence was 0.02
# to 7.6.
_BY_TYPE = {
    "F32": EXACT,
    "F16": Limit("largest_difference", 5e-2, 1e-1),
    "BF16": Limit("largest_difference", 0.5, 1.0),
    "Q8_0": Limit("mean_kl", 0.02, 1.0, _OWN),
}
# Two files of the same tensors in one engine.
SAME_ENGINE = Limit("largest_difference", 1e-3, 2e-3, "compared as long as their choices are the same")
QUANTISED = Limit("mean_kl", 0.04, 1.0, _OWN)


def limit_for(types: Set[str]) -> Limit:
    """The limit for a model whose tensors are of these types: that of the coarsest.

    Raises:
        ValueError: no types.
    """
    return max((_BY_TYPE.get(kind, QUANTISED) for kind in types), key=[*_BY_TYPE.values(), QUANTISED].index)


def tolerated(tolerance: float, usual: Limit) -> Limit:
    """The limit that someone has chosen: for the largest difference of two log-probabilities."""
    return dataclasses.replace(usual, of="largest_difference", most=tolerance, near_tie=2 * tolerance)
