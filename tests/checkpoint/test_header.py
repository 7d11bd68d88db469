"""The header is input from strangers: read as the safetensors library reads it, or refused in one line."""

from __future__ import annotations

import io
import json
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import example, given, settings, strategies as st

from gatenorm.checkpoint import TensorSpec
from gatenorm.checkpoint.dtypes import STORAGE_TYPES
from gatenorm.checkpoint.formats.safetensors.header import MAX_HEADER_BYTES, Header, parse_header, write_header
from gatenorm.errors import CheckpointError
from tests import errors
from tests.checkpoint.files import entry, header_bytes


def parse(data: bytes, size: int | None = None) -> Header:
    stream = io.BytesIO(data)

    def read(offset: int, length: int) -> bytes:
        stream.seek(offset)
        return stream.read(length)

    return parse_header(read, len(data) if size is None else size, "model.safetensors")


def refused(data: bytes, size: int | None = None) -> str:
    with pytest.raises(CheckpointError) as error:
        parse(data, size)
    message = str(error.value)
    assert message.startswith("model.safetensors: ")
    assert "\n" not in message.replace("\\n", "")
    message.encode()
    return message


NUMPY_TYPES = {"F32": "f4", "F16": "f2", "F64": "f8", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U8": "u1"}
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda n: n != "__metadata__")
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
TENSORS = st.dictionaries(NAMES, st.tuples(st.sampled_from(sorted(NUMPY_TYPES)), SHAPES), max_size=5)
METADATA = st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=3)


@given(TENSORS, METADATA)
@settings(max_examples=80, deadline=None)
def test_what_safetensors_writes_is_read(
    tensors: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str]
) -> None:
    arrays = {n: np.full(shape, 3, NUMPY_TYPES[dtype]) for n, (dtype, shape) in tensors.items()}
    data = safetensors.numpy.save(arrays, metadata or None)  # 0.8.0 writes no JSON for no tensors and empty metadata
    header = parse(data)
    assert header.metadata == metadata
    assert {t.name: (t.dtype, t.shape) for t in header.tensors} == tensors
    for tensor in header.tensors:
        assert data[tensor.begin : tensor.end] == arrays[tensor.name].tobytes()


@given(TENSORS, METADATA)
@settings(max_examples=80, deadline=None)
def test_what_is_written_safetensors_reads(
    tensors: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str]
) -> None:
    arrays = {n: np.full(shape, 5, NUMPY_TYPES[dtype]) for n, (dtype, shape) in tensors.items()}
    head = write_header((TensorSpec(n, *tensors[n], array.nbytes) for n, array in arrays.items()), metadata)
    assert len(head) % 8 == 0
    data = head + b"".join(a.tobytes() for a in arrays.values())
    theirs = safetensors.numpy.load(data)
    assert theirs.keys() == arrays.keys()
    for n, array in arrays.items():
        np.testing.assert_array_equal(theirs[n], array)
    ours = parse(data)
    assert ours.metadata == metadata
    assert {t.name: (t.dtype, t.shape) for t in ours.tensors} == tensors


SOUND = safetensors.numpy.save(
    {"a": np.ones((2, 3), np.float32), "b": np.zeros((0, 4), np.float16), "c": np.array(7, np.int64)}, {"k": "v"}
)


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=400, deadline=None)
def test_flipped_bytes_are_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SOUND)
    for position, byte in changes:
        data[position] = byte
    try:
        header = parse(bytes(data))
    except CheckpointError:
        return
    for tensor in header.tensors:  # what is accepted lies within the file and adds up
        assert 8 <= tensor.begin <= tensor.end <= len(data)
        assert tensor.nbytes == STORAGE_TYPES[tensor.dtype].itemsize * int(np.prod(tensor.shape, dtype=object))


@given(st.integers(0, len(SOUND) - 1))
@settings(max_examples=100, deadline=None)
def test_a_truncated_file_is_refused(length: int) -> None:
    refused(SOUND[:length])


@given(st.binary(max_size=64))
@settings(max_examples=200, deadline=None)
@example(b"")
@example(b"\x80\x02}q\x00.")
@example(struct.pack("<Q", 2) + b"{}")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(CheckpointError):
        parse(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": JSON | st.sampled_from(sorted(STORAGE_TYPES)),
        "shape": JSON | st.lists(st.integers(-1, 10**30), max_size=4),
        "data_offsets": JSON | st.tuples(st.integers(-1, 40), st.integers(-1, 40)),
    },
)


@given(st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), ENTRIES | JSON, max_size=3))
@settings(max_examples=400, deadline=None)
def test_any_json_is_read_or_refused(table: dict[str, Any]) -> None:
    try:
        parse(header_bytes(table) + bytes(32))
    except CheckpointError as error:
        message = str(error)
    else:
        message = ""
    message.encode()  # can be printed


TWICE = json.dumps({"a": entry([1], 0, 4)}).encode()[:-1] + b"," + json.dumps({"a": entry([1], 4, 8)}).encode()[1:]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([], "not an object"),
        ({"a": 1}, "lacks dtype, shape or data_offsets"),
        ({"a": {"dtype": "F32", "shape": [1]}}, "lacks"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, "lacks"),
        ({"a": entry([2], 0, 4)}, "needs 8 bytes, has 4"),
        ({"a": entry([1], 0, 8)}, "needs 4 bytes, has 8"),
        ({"a": entry([16], 0, 64)}, "truncated"),
        ({"a": entry([1], 8, 4)}, "truncated"),
        ({"a": entry([1], 32, 36)}, "truncated"),
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, "tensor b overlaps"),
        ({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, "overlaps"),
        ({"a": entry([-1], 0, 4)}, "no whole number"),
        ({"a": entry([1.0], 0, 4)}, "no whole number"),  # type: ignore[list-item]
        ({"a": entry([True], 0, 4)}, "no whole number"),
        ({"a": entry([1], 0, 4, "F31")}, "is of type 'F31': expected one of F32"),
        ({"a": entry([1], 0, 4, ["F32"])}, "is of type"),  # type: ignore[arg-type]
        ({"a": entry([1], 0, 4, {"F32": 1})}, "is of type"),  # type: ignore[arg-type]
        ({"a": entry([10**30, 0], 0, 0)}, "more than"),
        ({"a": entry([2**62, 2**62], 0, 4)}, "more than"),
        ({"a": entry([10**4000] * 50, 0, 4)}, "more than"),
        ({"a": entry([1] * 65, 0, 4)}, "65 dimensions"),
        ({"a": entry([1], 0, int("9" * 4300))}, "truncated"),
        ({"__metadata__": {"k": 1}}, "strings to strings"),
        ({"__metadata__": []}, "strings to strings"),
        ({"__metadata__": {"k": "\ud800"}}, "surrogate"),
        ({"\ud800": entry([1], 0, 4)}, "surrogate"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not the JSON"),
        (b'{"a": ' + b"[" * 100_000, "not the JSON"),
        (b'{"a": {"dtype": "F32", "dtype": "F32"}}', "appears twice"),
        (TWICE, "appears twice"),
        (json.dumps({"a": entry([1], 0, 4)}).encode("utf-16"), "not the JSON"),
        (b"\xff\xfe", "not the JSON"),
        (b"", "not the JSON"),
    ],
)  # fmt: skip
def test_a_header_that_lies(table: Any, expected: str) -> None:
    message = refused(header_bytes(table) + bytes(32))
    assert expected in message
    assert len(message) < 5000


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, MAX_HEADER_BYTES + 1, 25])
def test_a_length_that_lies_is_refused_before_anything_is_read(length: int) -> None:
    asked: list[int] = []

    def read(offset: int, count: int) -> bytes:
        asked.append(count)
        return struct.pack("<Q", length)

    with errors.refused("safetensors-damaged", kind=CheckpointError) as caught:
        parse_header(read, 32 if length == 25 else 2**62, "model.safetensors")
    assert f"{length:,} bytes" in caught.value.problem
    assert asked == [8]


def test_tensors_come_in_the_order_of_their_data() -> None:
    table = {"late": entry([2], 8, 16), "empty": entry([0], 8, 8), "early": entry([2], 0, 8)}
    assert [t.name for t in parse(header_bytes(table) + bytes(16)).tensors] == ["early", "empty", "late"]
