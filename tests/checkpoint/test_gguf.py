"""A GGUF file as a tensor store: what the gguf package wrote is what is read, whole or by rows."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from gatenorm.checkpoint import open_store
from gatenorm.checkpoint.formats.gguf import header, store
from gatenorm.checkpoint.formats.gguf.store import GgufStore
from gatenorm.errors import CheckpointError
from tests.errors import refused

gguf = pytest.importorskip("gguf")


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A file with one matrix in three types, and a vector."""
    values = np.random.default_rng(0).standard_normal((6, 64), np.float32)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("single", values)
    writer.add_tensor("half", values.astype(np.float16))
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("blocks", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.add_tensor("vector", values[0])
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    return tmp_path / "model.gguf", values


def test_tensors_are_read_by_name_whole_or_by_rows(written: tuple[Path, np.ndarray]):
    path, values = written
    store = GgufStore(path)
    assert (store.name, store.companions, list(store.specs)) == ("model", (), ["single", "half", "blocks", "vector"])
    assert store.metadata["general.architecture"] == "llama"
    assert [(s.dtype, s.shape, s.nbytes) for s in store.specs.values()] == [
        ("F32", (6, 64), 1536),
        ("F16", (6, 64), 768),
        ("Q8_0", (6, 64), 408),
        ("F32", (64,), 256),
    ]
    np.testing.assert_array_equal(store.float32("single", slice(2, 4)), values[2:4])
    np.testing.assert_array_equal(store.raw("half"), values.astype(np.float16))
    np.testing.assert_array_equal(store.float32("vector"), values[0])
    assert store.raw("blocks", slice(1, 3)).shape == (2, 68)
    np.testing.assert_allclose(store.float32("blocks"), values, atol=0.05)
    assert store.bytes_read == 512 + 768 + 256 + 136 + 408
    stored = store.byte_range("half")
    assert path.read_bytes()[stored.begin : stored.end] == values.astype(np.float16).tobytes()
    with refused("tensor-missing"):
        store.raw("other")


def test_a_fingerprint_is_of_the_whole_file(written: tuple[Path, np.ndarray]):
    path, _ = written
    assert GgufStore(path).fingerprint() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_shrinks_while_it_is_read_is_an_error(written: tuple[Path, np.ndarray]):
    path, _ = written
    store = GgufStore(path)
    path.write_bytes(path.read_bytes()[:-300])
    with refused("file-changed", kind=CheckpointError):
        store.raw("vector")


def test_one_of_several_parts_is_no_model(tmp_path: Path):
    writer = gguf.GGUFWriter(tmp_path / "model-00001-of-00003.gguf", "llama")
    writer.add_uint16("split.count", 3)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    with refused("gguf-split", kind=CheckpointError):
        open_store(tmp_path / "model-00001-of-00003.gguf")


def test_a_vector_of_blocks_and_no_rows_at_all(written: tuple[Path, np.ndarray], tmp_path: Path):
    values = written[1][0]
    writer = gguf.GGUFWriter(tmp_path / "vector.gguf", "llama")
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("blocks", gguf.quants.quantize(values, kind), raw_dtype=kind)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    store = GgufStore(tmp_path / "vector.gguf")
    np.testing.assert_allclose(store.float32("blocks", slice(8, 40)), values[8:40], atol=0.05)
    assert GgufStore(written[0]).float32("blocks", slice(2, 2)).shape == (0, 64)


def test_no_fifo_is_waited_for_and_no_header_is_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    os.mkfifo(tmp_path / "model.gguf")
    with refused("file-unreadable", kind=CheckpointError):
        GgufStore(tmp_path / "model.gguf")
    monkeypatch.setattr(header, "_LONGEST_HEADER", 1000)
    entry = struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 0, 2000)  # two thousand bytes, as an array
    (tmp_path / "long.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry + bytes(4000))
    with refused("gguf-damaged", kind=CheckpointError) as caught:
        GgufStore(tmp_path / "long.gguf")
    assert "1,000 bytes" in caught.value.problem


@pytest.mark.parametrize(
    "record",
    ["[" * 100_000, "[" * 101 + "]" * 101, '{"half": "\\ud800"}', f"[{'0,' * 2_000_000}0]"],
    ids=["endless", "deep", "half", "long"],
)
def test_a_record_is_read_within_the_limits_of_any_other(tmp_path: Path, record: str):
    fields = {store.RECORD_KEY: record}
    with refused("gguf-damaged"):
        store._record(tmp_path / "model.gguf", fields)
