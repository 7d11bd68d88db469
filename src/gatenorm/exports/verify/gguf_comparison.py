"""Is every tensor of a GGUF file the one of the checkpoint that it should be?

Tensor by tensor and row by row, as float32: what a row is off by is held against what its type rounds by. Quantisation
hides little then: a wrong tensor is off by 1.4 times its length, four bits by less than a tenth of it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gatenorm.checkpoint import TensorStore
from gatenorm.checkpoint.dtypes import Float32, to_float32
from gatenorm.errors import EvaluationError
from gatenorm.exports.gguf.tensors import Tensor, tensors
from gatenorm.exports.verify.tolerances import ROUNDING
from gatenorm.families import Layout
from gatenorm.progress import Progress

# Architectures whose tensors have the names, the shapes and the order of rotary pairs that ``gguf_tensors`` knows.
ARCHITECTURES = ("deci", "llama")
# How much of a tensor is compared at once, and how many tensors a message names.
_NUMBERS = 4 << 20
_NAMED = 3


@dataclass(frozen=True)
class Compared:
    """What came of it.

    ``errors`` has for every tensor that both sides have the largest error of a row, relative to the row, by type:
    ``errors[type][name]``. ``wrong`` is the number of tensors that are not the checkpoint's, ``faults`` names the first
    of them, one a line.
    """

    errors: dict[str, dict[str, float]]
    wrong: int
    faults: tuple[str, ...]

    @property
    def count(self) -> int:
        return sum(map(len, self.errors.values()))


def compare(
    contents: TensorStore,
    layout: Layout,
    keep: Callable[[Tensor, Float32], None] | None = None,
    progress: Progress | None = None,
) -> Compared:
    """Hold every tensor of a file against that of the checkpoint that it was written from.

    One tensor is in memory at a time where they are kept, else a piece of one.

    Args:
        contents: the file, of one of ``ARCHITECTURES``.
        layout: the checkpoint; one that can be written as GGUF.
        keep: called with each tensor that is right, as the file has it; not with those that the file makes up.
        progress: called with (bytes compared, bytes).

    Raises:
        EvaluationError: a tensor is stored in a type whose rounding is not known.
        CheckpointError: the checkpoint lacks a tensor.
    """
    wanted = {part.name: part for part in tensors(layout, "f32")}
    errors: dict[str, dict[str, float]] = {}
    wrong: list[str] = []
    for name, part in _counted(wanted, contents, progress):
        stored = contents.specs.get(name)
        if stored is None:
            wrong.append(f"{name} is missing")
        elif stored.shape != part.shape:
            wrong.append(f"{name} has shape {list(stored.shape)}, not {list(part.shape)}")
        else:
            error, beyond = _differing(contents, part, keep)
            errors.setdefault(stored.dtype, {})[name] = error
            if beyond:
                wrong.append(
                    f"{name} ({stored.dtype.lower()}) is not {part.source or 'what it should be'}: "
                    f"{beyond} of {_rows(part.shape)} rows are off by up to {error:.2g} of their length, "
                    f"at most {ROUNDING[stored.dtype].relative:.2g}"
                )
    wrong += [f"{name} has no counterpart" for name in contents.specs if name not in wanted]
    return _compared(errors, wrong)


def compare_copies(contents: TensorStore, layout: Layout, progress: Progress | None = None) -> Compared:
    """Whether every tensor of a file has the very bytes of the one that it should be a copy of.

    Args:
        contents: the file.
        layout: what it should be, out of another file.
        progress: called with (bytes compared, bytes).
    """
    wanted = {part.name: part for part in tensors(layout, "auto")}
    errors: dict[str, dict[str, float]] = {}
    wrong = [f"{name} has no counterpart" for name in contents.specs if name not in wanted]
    for name, part in _counted(wanted, contents, progress):
        stored = contents.specs.get(name)
        if stored is None or (stored.shape, stored.dtype) != (part.shape, part.type):
            wrong.append(f"{name} is missing, or has another shape or type")
            continue
        errors.setdefault(stored.dtype, {})[name] = 0.0
        step = max(1, _NUMBERS * part.shape[0] // max(1, int(np.prod(part.shape, dtype=np.int64))) // part.step)
        runs = [(i, min(i + step * part.step, part.shape[0])) for i in range(0, part.shape[0], step * part.step)]
        equal = (np.array_equal(contents.raw(name, slice(*run)), part.rows(*run)) for run in runs)
        if part.source and not all(equal):
            wrong.append(f"{name} ({stored.dtype.lower()}) is no copy of {part.source}")
    return _compared(errors, wrong)


def _counted(
    wanted: Mapping[str, Tensor], contents: TensorStore, progress: Progress | None
) -> Iterator[tuple[str, Tensor]]:
    """What is wanted, while progress counts the bytes that the file has of it."""
    sizes = {name: contents.spec(name).nbytes for name in wanted if name in contents.specs}
    total, done = sum(sizes.values()), 0
    for name, part in wanted.items():
        if progress:
            progress(done, total)
        yield name, part
        done += sizes.get(name, 0)
    if progress:
        progress(done, total)


def _compared(errors: dict[str, dict[str, float]], wrong: list[str]) -> Compared:
    faults = [f"tensor {text}" for text in wrong[:_NAMED]]
    if len(wrong) > _NAMED:
        faults.append(f"and {len(wrong) - _NAMED} more tensors")
    return Compared(errors, len(wrong), tuple(faults))


def _differing(
    contents: TensorStore, part: Tensor, keep: Callable[[Tensor, Float32], None] | None
) -> tuple[float, int]:
    dtype, count = contents.spec(part.name).dtype, part.shape[0]
    if dtype not in ROUNDING:
        problem = f"{contents.name}: {part.name} is stored as {dtype}, whose rounding is not known here"
        raise EvaluationError("rounding-unknown", problem, expected=", ".join(ROUNDING))
    whole = np.empty(part.shape, np.float32) if keep and part.source else None
    step = max(1, _NUMBERS // max(1, int(np.prod(part.shape[1:], dtype=np.int64))) // part.step) * part.step
    largest, beyond = 0.0, 0
    for begin in range(0, count, step):
        end = min(begin + step, count)
        found = contents.float32(part.name, slice(begin, end))
        expected = to_float32(part.rows(begin, end), part.stored)
        if whole is not None:
            whole[begin:end] = found
        if len(part.shape) == 1:  # a vector is one row, and small
            found, expected = found[None], expected[None]
        with np.errstate(invalid="ignore", over="ignore"):
            off = np.sqrt(np.square(found.astype(np.float64) - expected).sum(axis=-1))
            length = np.sqrt(np.square(expected, dtype=np.float64).sum(axis=-1))
            beyond += int((~(off <= ROUNDING[dtype].limit(expected))).sum())
            relative = np.divide(off, length, out=np.where(off > 0, np.inf, 0.0), where=length > 0)
        # Rows next to zero are told by the limit alone: what half precision loses there is no rounding of a block.
        largest = max(largest, float(relative.max(initial=0.0)))
    if keep and whole is not None and not beyond:
        keep(part, whole)
    return largest, beyond


def _rows(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) > 1 else 1
