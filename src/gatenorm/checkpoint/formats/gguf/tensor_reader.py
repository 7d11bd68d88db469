"""The tensors of a GGUF file as numbers, and how far quantisation may have moved them.

The gguf package takes the blocks apart, in NumPy: another program than the quantiser that may have put them together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint.dtypes import Float32
from gatenorm.checkpoint.formats.gguf.header import Header, Stored, read_header
from gatenorm.errors import EvaluationError


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


class Contents:
    """A GGUF file whose tensors are read as float32, some rows at a time. ``close`` it.

    Raises:
        EvaluationError: it is no whole GGUF file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.header: Header = read_header(path)
        self._file: BinaryIO = path.open("rb")

    @property
    def tensors(self) -> dict[str, Stored]:
        """What lies in the file, by name."""
        return self.header.tensors

    def float32(self, name: str, begin: int, end: int) -> Float32:
        """Rows ``begin`` to ``end`` of a tensor, ``[rows, ...]``; numbers of a vector.

        Raises:
            EvaluationError: a type whose rounding is not known here, or the file has become shorter.
        """
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        tensor = self.tensors[name]
        if tensor.type not in ROUNDING:
            raise EvaluationError(
                f"{self.path}: {name} is stored as {tensor.type}, whose rounding is not known here: expected "
                f"{', '.join(ROUNDING)}"
            )
        row = tensor.nbytes // tensor.shape[0]
        self._file.seek(tensor.begin + begin * row)
        data = np.frombuffer(self._file.read((end - begin) * row), np.uint8)
        if data.size != (end - begin) * row:
            raise EvaluationError(f"{self.path} became shorter while it was read")
        values = dequantize(data.reshape(end - begin, row), GGMLQuantizationType[tensor.type])
        found: Float32 = values.reshape(end - begin, *tensor.shape[1:])
        return found

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
