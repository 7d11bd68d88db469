"""The safetensors header: an untrusted JSON object, checked before a byte of it is believed.

Layout (https://github.com/huggingface/safetensors): 8 bytes little-endian header length N, N bytes of JSON that map a
tensor's name to ``{"dtype", "shape", "data_offsets": [begin, end]}`` (offsets relative to the end of the header), then
the data. ``__metadata__`` maps strings to strings.
"""

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gatenorm.checkpoint.dtypes import STORAGE_TYPES
from gatenorm.checkpoint.misfits import check_pointer
from gatenorm.checkpoint.parts import NewTensor
from gatenorm.checkpoint.store import StoredTensor, TensorSpec
from gatenorm.errors import CheckpointError
from gatenorm.files import LARGE, parse_json

# The format allows 100 MB, which would take gigabytes to parse; 500,000 tensors fit into this.
MAX_HEADER_BYTES = LARGE
# What numpy can hold; a tensor of more dimensions or bytes than that is a lie too, even where one dimension is 0.
MAX_DIMENSIONS = 64
MAX_BYTES = 2**63 - 1


@dataclass(frozen=True)
class Header:
    """The parsed header of one file: its tensors in the order of their data, and its metadata strings."""

    tensors: tuple[StoredTensor, ...]
    metadata: dict[str, str]


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        raise ValueError("a name appears twice")
    return seen


def is_utf8(text: str) -> bool:
    """Whether a text is free of lone surrogates, which JSON can express and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_header(read: Callable[[int, int], bytes], size: int, file: str) -> Header:
    """Read and check the header of one safetensors file.

    Args:
        read: ``read(offset, length)`` gives that many bytes of the file.
        size: the file's length in bytes.
        file: its name, for messages.

    Raises:
        CheckpointError: anything that does not add up: truncated, not JSON, sizes that contradict shape and dtype,
            ranges that overlap or lie outside the file.
    """

    def damaged(why: str) -> CheckpointError:
        return CheckpointError(
            "safetensors-damaged", f"{file}: {why}; the file is damaged or not safetensors", hint="fetch it again"
        )

    if size < 8:
        raise damaged(f"{size} bytes long, too short for a header")
    begin = read(0, 8)
    if begin == b"version ":
        check_pointer(read(0, min(size, 23)), file)
    (length,) = struct.unpack("<Q", begin)
    if length > MAX_HEADER_BYTES or 8 + length > size:
        raise damaged(f"the header claims {length:,} bytes, the file has {size:,}")
    try:
        raw = parse_json(read(8, length), MAX_HEADER_BYTES, _no_duplicates)
        if not isinstance(raw, dict):
            raise ValueError("it is not an object")
    except ValueError as error:
        raise damaged(f"the header is not the JSON it should be ({error})") from None

    metadata = raw.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise damaged("__metadata__ does not map strings to strings")
    tensors = [_tensor(name, entry, 8 + length, size, file, damaged) for name, entry in raw.items()]
    tensors.sort(key=lambda t: (t.begin, t.end))
    previous = 8 + length
    for tensor in tensors:
        if tensor.begin < previous:
            raise damaged(f"tensor {tensor.name} overlaps the one before it")
        previous = tensor.end
    return Header(tuple(tensors), metadata)


def _tensor(
    name: str, entry: Any, data: int, size: int, file: str, damaged: Callable[[str], CheckpointError]
) -> StoredTensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise damaged(f"tensor {name} lacks dtype, shape or data_offsets") from None
    numbers = (*shape, begin, end)
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise damaged(f"tensor {name} has a shape or offset that is no whole number")
    if not isinstance(dtype, str) or dtype not in STORAGE_TYPES:
        problem = f"{file}: tensor {name} is of type {dtype!r:.40}"
        raise CheckpointError("dtype-unknown", problem, expected=f"one of {', '.join(STORAGE_TYPES)}")
    # Sizes first: past this line every number is small enough to be computed with and printed.
    if not begin <= end <= size - data:
        raise damaged(f"tensor {name} does not end within the file's {size:,} bytes: truncated")
    if len(shape) > MAX_DIMENSIONS:
        raise damaged(f"tensor {name} has {len(shape)} dimensions, expected at most {MAX_DIMENSIONS}")
    expected = STORAGE_TYPES[dtype].itemsize
    for n in shape:
        expected *= n or 1
        if expected > MAX_BYTES:
            raise damaged(f"tensor {name} has a shape of more than {MAX_BYTES:,} bytes")
    if 0 in shape:
        expected = 0
    if end - begin != expected:
        needs = f"tensor {name} of shape {list(shape)} and type {dtype} needs {expected:,} bytes"
        raise damaged(f"{needs}, has {end - begin:,}")
    return StoredTensor(name, dtype, shape, end - begin, file, data + begin)


def write_header(tensors: Iterable[TensorSpec | NewTensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a header for tensors whose data follow in this order without gaps.

    Padded with spaces to a multiple of 8 bytes, as the format wants, so that the data stay aligned.
    """
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for tensor in tensors:
        end = begin + tensor.nbytes
        table[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
