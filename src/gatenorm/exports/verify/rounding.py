"""How far quantisation may move the numbers of a tensor."""

from __future__ import annotations

import math
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
