"""New tensors as parts of existing files: byte ranges are copied, nothing is decoded, memory stays flat."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
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


@dataclass(frozen=True)
class Repeated:
    """A pattern of bytes, ``count`` times."""

    pattern: bytes
    count: int

    @property
    def nbytes(self) -> int:
        return len(self.pattern) * self.count


@dataclass(frozen=True)
class Widened:
    """Rows of ``row`` bytes, which fill a range of a file, each followed by ``extra`` zero bytes."""

    source: ByteRange
    row: int
    extra: int

    @property
    def nbytes(self) -> int:
        return self.source.nbytes // self.row * (self.row + self.extra)


@dataclass(frozen=True)
class Computed:
    """``nbytes`` bytes that are made when their turn to be written comes, so that few of them exist at a time."""

    nbytes: int
    make: Callable[[], bytes]


Part = ByteRange | Repeated | Widened | Computed


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
    with ExitStack() as stack:
        opened: dict[Path, int] = {}

        def source(file: Path) -> int:
            if file not in opened:
                opened[file] = stack.enter_context(file.open("rb")).fileno()
            return opened[file]

        for part in _joined(parts):
            yield from _write_part(part, source, target)


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    """The same bytes in as few ranges as they can be copied in."""
    last: Part | None = None
    for part in parts:
        if (
            isinstance(last, ByteRange)
            and isinstance(part, ByteRange)
            and (last.file, last.end) == (part.file, part.begin)
        ):
            last = ByteRange(last.file, last.begin, part.end)
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last


def _write_part(part: Part, source: Callable[[Path], int], target: int) -> Iterator[int]:
    if isinstance(part, ByteRange):
        return _copy_range(source(part.file), target, part.begin, part.end)
    if isinstance(part, Computed):
        return iter([write_all(target, _checked(part))])
    return _repeat(target, part) if isinstance(part, Repeated) else _widen(source(part.source.file), target, part)


def _checked(part: Computed) -> bytes:
    content = part.make()
    if len(content) != part.nbytes:
        raise ValueError(f"{len(content)} bytes were made, the header promises {part.nbytes}")
    return content


def _repeat(target: int, part: Repeated) -> Iterator[int]:
    at_once = max(1, _BUFFER // len(part.pattern))
    for begin in range(0, part.count, at_once):
        yield write_all(target, part.pattern * min(at_once, part.count - begin))


def _widen(source: int, target: int, part: Widened) -> Iterator[int]:
    step = max(1, _BUFFER // (part.row + part.extra)) * part.row
    end = part.source.end
    for begin in range(part.source.begin, end, step):
        rows = np.frombuffer(_read_all(source, min(step, end - begin), begin), np.uint8).reshape(-1, part.row)
        wide = np.zeros((len(rows), part.row + part.extra), np.uint8)
        wide[:, : part.row] = rows
        yield write_all(target, wide.tobytes())


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


def _read_all(source: int, count: int, begin: int) -> bytes:
    pieces: list[bytes] = []
    while count:
        piece = os.pread(source, count, begin)
        if not piece:
            raise _shorter()
        pieces.append(piece)
        begin, count = begin + len(piece), count - len(piece)
    return b"".join(pieces)


def write_all(target: int, content: bytes) -> int:
    """Append ``content`` to an open file; returns its length."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(target, rest) :]
    return len(content)


def _shorter() -> OSError:
    return OSError(errno.EIO, "the source became shorter while it was read")
