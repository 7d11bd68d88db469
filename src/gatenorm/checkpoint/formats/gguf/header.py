"""What a GGUF file says of itself, read with suspicion: before a C++ loader is given one, it is looked through here.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from gatenorm.checkpoint.misfits import check_pointer
from gatenorm.checkpoint.store import StoredTensor
from gatenorm.errors import CheckpointError
from gatenorm.files import open_regular

Value = TypeVar("Value")

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
# More of either, or longer strings, no file has; a number read from a stranger's file must not set our memory.
_MOST_ENTRIES = 1 << 16
_LONGEST_STRING = 1 << 24
_LONGEST_ARRAY = 1 << 22
# Keys and tensors together; vocabularies of 250,000 tokens take a tenth.
_LONGEST_HEADER = 1 << 27
# Of a tensor, in bytes: ggml keeps 64 with the zero at the end.
_LONGEST_NAME = 63
# `gguf_type` of gguf.h: how struct reads the scalars.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself: keys with their values, and its tensors.

    ``kinds`` has the type of every value and, for a list, that of its entries, as the format numbers them.
    """

    fields: dict[str, Any]
    kinds: dict[str, tuple[int, int | None]]
    tensors: dict[str, StoredTensor]


def read_header(path: Path) -> Header:
    """What the file says of itself, after making sure that it holds what it promises.

    Raises:
        CheckpointError: it is no GGUF file, of another version or byte order, damaged, or shorter than its tensors.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            reader = _Reader(file, size)
            first = file.read(4)
            if first != MAGIC:
                check_pointer(first + file.read(19), path)
                raise CheckpointError(
                    "gguf-no-file", f"{path} is no GGUF file: it does not begin with {MAGIC.decode()}"
                )
            version = reader.number("I")
            if version not in VERSIONS:
                problem = f"{path} is GGUF of version {version}"
                raise CheckpointError("gguf-version", problem, expected=f"version {' or '.join(map(str, VERSIONS))}")
            count, entries = reader.count(_MOST_ENTRIES), reader.count(_MOST_ENTRIES)
            entered = _once((reader.string(), reader.entry()) for _ in range(entries))
            fields = {key: value for key, (value, _) in entered.items()}
            kinds = {key: kind for key, (_, kind) in entered.items()}
            declared = _once((reader.name(), reader.tensor()) for _ in range(count))
            alignment = fields.get("general.alignment", ALIGNMENT)
            if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
                raise _DamagedError("its alignment is no power of two")
            begin = -(-file.tell() // alignment) * alignment
        tensors = {name: _stored(path.name, name, *said, begin, alignment, size) for name, said in declared.items()}
        _check_apart(tensors)
    except (_DamagedError, UnicodeDecodeError) as error:
        raise CheckpointError("gguf-damaged", f"{path} is damaged: {error}", hint="write or fetch it again") from None
    except OSError as error:
        raise CheckpointError("file-unreadable", f"{path} cannot be read: {error.strerror or error}") from None
    return Header(fields, kinds, tensors)


def _once(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in pairs:
        if name in found:
            raise _DamagedError(f"it has {name!r:.80} twice")
        found[name] = value
    return found


def _stored(
    file: str, name: str, shape: tuple[int, ...], kind: int, offset: int, begin: int, alignment: int, size: int
) -> StoredTensor:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if kind not in {int(known) for known in GGML_QUANT_SIZES}:
        raise _DamagedError(f"tensor {name:.80} has type {kind}, which this release does not know")
    numbers, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    if not shape or min(shape) < 1 or shape[0] % numbers:
        raise _DamagedError(f"tensor {name:.80} has shape {list(shape)}, in blocks of {numbers}")
    if offset % alignment:
        raise _DamagedError(f"tensor {name:.80} begins at {offset}, not at a multiple of {alignment}")
    length = math.prod(shape) // numbers * nbytes
    if begin + offset + length > size:
        over = begin + offset + length - size
        raise _DamagedError(f"it is cut short: tensor {name:.80} ends {over:,} bytes beyond the end of the file")
    return StoredTensor(name, GGMLQuantizationType(kind).name, shape[::-1], length, file, begin + offset)


def _check_apart(tensors: Mapping[str, StoredTensor]) -> None:
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].begin):
        if tensor.begin < end:
            raise _DamagedError(f"tensor {name:.80} lies within another one")
        end = tensor.begin + tensor.nbytes


class _DamagedError(Exception):
    pass


class _Reader:
    """Numbers, strings and arrays out of a file of ``size`` bytes; nothing longer than the file is believed."""

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.size, self.left = file, size, _LONGEST_HEADER

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self._read(struct.calcsize("<" + code)))[0]

    def count(self, limit: int) -> int:
        number = int(self.number("Q"))
        if number > min(limit, self.size):
            raise _DamagedError(f"it claims to hold {number:,} of something")
        return number

    def string(self) -> str:
        return self._read(self.count(_LONGEST_STRING)).decode("utf-8")

    def entry(self) -> tuple[Any, tuple[int, int | None]]:
        """A value with its type, and for a list that of its entries."""
        kind = self.number("I")
        if kind != _ARRAY:
            return self._value(kind), (kind, None)
        item, length = self.number("I"), self.count(_LONGEST_ARRAY)
        if item in _SCALARS:
            data = self._read(length * struct.calcsize("<" + _SCALARS[item]))
            return list(struct.unpack(f"<{length}{_SCALARS[item]}", data)), (kind, item)
        return [self._value(item) for _ in range(length)], (kind, item)

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind != _STRING:
            raise _DamagedError(f"it has a value of type {kind}")
        return self.string()

    def name(self) -> str:
        name = self.string()
        if not 0 < len(name.encode()) <= _LONGEST_NAME:
            raise _DamagedError(f"a tensor has the name {name!r:.80}")
        return name

    def tensor(self) -> tuple[tuple[int, ...], int, int]:
        dimensions = self.number("I")
        if dimensions > 4:
            raise _DamagedError(f"a tensor has {dimensions} dimensions")
        shape = tuple(self.number("Q") for _ in range(dimensions))
        return shape, self.number("I"), self.number("Q")

    def _read(self, length: int) -> bytes:
        self.left -= length
        if self.left < 0:
            raise _DamagedError(f"its header is longer than {_LONGEST_HEADER:,} bytes")
        data = self.file.read(length)
        if len(data) < length:
            raise _DamagedError(f"it is cut short: it ends at byte {self.size:,}, before its header does")
        return data
