"""What a GGUF file says of itself, read with suspicion: before a C++ loader is given one, it is looked through here.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gatenorm.errors import EvaluationError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
# More of either, or longer strings, no file has; a number read from a stranger's file must not set our memory.
_MOST_ENTRIES = 1 << 16
_LONGEST_STRING = 1 << 24
_LONGEST_ARRAY = 1 << 24
# `gguf_type` of gguf.h: how struct reads the scalars.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself: keys with their values, and each tensor's shape, type number and offset."""

    fields: dict[str, Any]
    tensors: dict[str, tuple[tuple[int, ...], int, int]]


def read_header(path: Path) -> Header:
    """What the file says of itself, after making sure that it holds what it promises.

    Raises:
        EvaluationError: it is no GGUF file, of another version or byte order, damaged, or shorter than its tensors.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            reader = _Reader(file, size)
            if file.read(4) != MAGIC:
                raise EvaluationError(f"{path} is no GGUF file: it does not begin with {MAGIC.decode()}")
            version = reader.number("I")
            if version not in VERSIONS:
                raise EvaluationError(
                    f"{path} is GGUF of version {version}, expected {' or '.join(map(str, VERSIONS))}"
                )
            count, entries = reader.count(_MOST_ENTRIES), reader.count(_MOST_ENTRIES)
            fields = {reader.string(): reader.value(reader.number("I")) for _ in range(entries)}
            tensors = {reader.string(): reader.tensor() for _ in range(count)}
            alignment = fields.get("general.alignment", ALIGNMENT)
            if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
                raise _DamagedError("its alignment is no power of two")
            begin = -(-file.tell() // alignment) * alignment
    except (_DamagedError, UnicodeDecodeError, struct.error) as error:
        raise EvaluationError(f"{path} is damaged: {error}; write or fetch it again") from None
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error.strerror or error}") from None
    _check_sizes(path, size - begin, tensors)
    return Header(fields, tensors)


def _check_sizes(path: Path, room: int, tensors: dict[str, tuple[tuple[int, ...], int, int]]) -> None:
    from gguf import GGML_QUANT_SIZES

    sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
    for name, (shape, kind, offset) in tensors.items():
        if kind not in sizes:
            raise EvaluationError(f"{path}: tensor {name:.80} has type {kind}, which this release does not know")
        numbers, nbytes = sizes[kind]
        elements = 1
        for length in shape:
            elements *= length
        if offset + elements // numbers * nbytes > room:
            raise EvaluationError(
                f"{path} is cut short: tensor {name:.80} ends {offset + elements // numbers * nbytes - room:,} bytes "
                "beyond the end of the file; write or fetch it again"
            )


class _DamagedError(Exception):
    pass


class _Reader:
    """Numbers, strings and arrays out of a file of ``size`` bytes; nothing longer than the file is believed."""

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.size = file, size

    def number(self, code: str) -> Any:
        data = self.file.read(struct.calcsize("<" + code))
        return struct.unpack("<" + code, data)[0]

    def count(self, limit: int) -> int:
        number = int(self.number("Q"))
        if number > min(limit, self.size):
            raise _DamagedError(f"it claims to hold {number:,} of something")
        return number

    def string(self) -> str:
        return self.file.read(self.count(_LONGEST_STRING)).decode("utf-8")

    def value(self, kind: int, nested: bool = False) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY or nested:
            raise _DamagedError(f"it has a value of type {kind}")
        item, length = self.number("I"), self.count(_LONGEST_ARRAY)
        if item in _SCALARS:
            data = self.file.read(length * struct.calcsize("<" + _SCALARS[item]))
            return list(struct.unpack(f"<{length}{_SCALARS[item]}", data))
        return [self.value(item, nested=True) for _ in range(length)]

    def tensor(self) -> tuple[tuple[int, ...], int, int]:
        dimensions = self.number("I")
        if dimensions > 4:
            raise _DamagedError(f"a tensor has {dimensions} dimensions")
        shape = tuple(self.number("Q") for _ in range(dimensions))
        return shape, self.number("I"), self.number("Q")
