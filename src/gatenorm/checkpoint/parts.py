"""New tensors as parts of existing files: byte ranges are copied, nothing is decoded, memory stays flat."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Large enough to keep system calls few, small enough for a progress bar that moves.
_CHUNK = 64 << 20
_BUFFER = 8 << 20


@dataclass(frozen=True)
class ByteRange:
    """Bytes ``begin`` to ``end`` of a file."""

    file: Path
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.begin

    def meets(self, other: ByteRange) -> bool:
        return (self.file, self.end) == (other.file, other.begin)


@dataclass(frozen=True)
class Made:
    """``nbytes`` bytes that are made piece by piece when their turn to be written comes; few exist at a time."""

    nbytes: int
    pieces: Callable[[], Iterable[bytes]]


Part = ByteRange | Made


def computed(nbytes: int, make: Callable[[], bytes]) -> Made:
    """Bytes that are made at once."""
    return Made(nbytes, lambda: [make()])


def repeated(pattern: bytes, count: int) -> Made:
    """A pattern of bytes, ``count`` times."""
    at_once = max(1, _BUFFER // len(pattern))
    return Made(
        len(pattern) * count,
        lambda: (pattern * min(at_once, count - begin) for begin in range(0, count, at_once)),
    )


def widened(source: ByteRange, row: int, extra: int) -> Made:
    """Rows of ``row`` bytes, which fill ``source``, each followed by ``extra`` zero bytes."""

    def pieces() -> Iterator[bytes]:
        step = max(1, _BUFFER // (row + extra)) * row
        with source.file.open("rb") as file:
            file.seek(source.begin)
            for begin in range(source.begin, source.end, step):
                data = file.read(min(step, source.end - begin))
                if len(data) < min(step, source.end - begin):
                    raise _shorter()
                rows = np.frombuffer(data, np.uint8).reshape(-1, row)
                yield np.pad(rows, ((0, 0), (0, extra))).tobytes()

    return Made(source.nbytes // row * (row + extra), pieces)


@dataclass(frozen=True)
class NewTensor:
    """A tensor to write: its parts, one after the other, are its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


def write_parts(parts: Iterable[Part], target: int) -> Iterator[int]:
    """Append parts to an open file; yields the number of bytes after every step."""
    for part in _joined(parts):
        if isinstance(part, ByteRange):
            with part.file.open("rb") as source:
                yield from _copy_range(source.fileno(), target, part.begin, part.end)
            continue
        left = part.nbytes
        for piece in part.pieces():
            left -= len(piece)
            yield write_all(target, piece)
        if left:
            raise ValueError(f"{part.nbytes - left} bytes were made, the header promises {part.nbytes}")


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    last: Part | None = None
    for part in parts:
        if isinstance(last, ByteRange) and isinstance(part, ByteRange) and last.meets(part):
            last = ByteRange(last.file, last.begin, part.end)
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last


def _copy_range(source: int, target: int, begin: int, end: int) -> Iterator[int]:
    """Append bytes ``begin`` to ``end`` of one open file to another, inside the kernel where it can."""
    in_kernel = hasattr(os, "copy_file_range")
    while begin < end:
        count = min(_CHUNK, end - begin)
        if in_kernel:
            try:
                written = os.copy_file_range(source, target, count, offset_src=begin)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
                    raise
                in_kernel = False
                continue
        else:
            written = os.write(target, os.pread(source, min(count, _BUFFER), begin))
        if written == 0:
            raise _shorter()
        begin += written
        yield written


def write_all(target: int, content: bytes) -> int:
    """Append ``content`` to an open file; returns its length."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(target, rest) :]
    return len(content)


def _shorter() -> OSError:
    return OSError(errno.EIO, "the source became shorter while it was read")
