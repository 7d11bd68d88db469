"""Files made of pieces: the bytes are right however the pieces fall into the buffer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gatenorm.checkpoint import parts
from gatenorm.checkpoint.formats.safetensors.writer import NewFile, NewFiles
from gatenorm.checkpoint.parts import ByteRange, NewTensor, computed, repeated, widened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of 5000 random bytes."""
    path = tmp_path / "source"
    path.write_bytes(np.random.Generator(np.random.PCG64(0)).bytes(5000))
    return path


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("buffer", [1, 7, 64, 1000, 1 << 20])
def test_every_kind_of_part_at_every_size_of_buffer(
    buffer: int, kernel: bool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(parts, "_BUFFER", buffer)
    monkeypatch.setattr(parts, "_CHUNK", buffer)
    if not kernel:
        monkeypatch.delattr("os.copy_file_range")
    content = np.frombuffer(source.read_bytes(), np.uint8)
    tensors = (
        NewTensor("a", "U8", (700,), (ByteRange(source, 10, 310), ByteRange(source, 310, 710))),  # one range
        NewTensor("b", "F32", (123,), (repeated(b"\0\0\x80\x3f", 123),)),
        NewTensor("c", "U8", (20, 33), (widened(ByteRange(source, 1000, 1600), 30, 3),)),
        NewTensor("d", "U8", (40, 10), (ByteRange(source, 4000, 4300), repeated(b"\0", 100))),
    )
    file = NewFile("model.safetensors", tensors, {"format": "pt"})
    calls: list[tuple[int, int]] = []
    NewFiles((file,)).write(tmp_path, lambda *call: calls.append(call))
    found = load_file(tmp_path / "model.safetensors")
    assert np.array_equal(found["a"], content[10:710])
    assert np.array_equal(found["b"], np.ones(123, np.float32))
    rows = content[1000:1600].reshape(20, 30)
    assert np.array_equal(found["c"], np.hstack([rows, np.zeros((20, 3), np.uint8)]))
    assert np.array_equal(found["d"].ravel(), np.concatenate([content[4000:4300], np.zeros(100, np.uint8)]))
    size = (tmp_path / "model.safetensors").stat().st_size
    assert calls[-1] == (size, size)
    assert size == file.size


def test_the_index_names_every_tensors_file():
    files = (
        NewFile("x", (NewTensor("b", "U8", (3,), (repeated(b"\0", 3),)),)),
        NewFile("y", (NewTensor("a", "U8", (4,), (repeated(b"\0", 4),)),)),
    )
    index = NewFiles(files, {"kept": 1, "total_size": 99}).index
    assert index == {"metadata": {"kept": 1, "total_size": 7}, "weight_map": {"a": "y", "b": "x"}}
    assert json.dumps(index)


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("part", [lambda cut: cut, lambda cut: widened(cut, 20, 1)])
def test_a_source_that_became_shorter_is_an_error(
    part: object, kernel: bool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if not kernel:
        monkeypatch.delattr("os.copy_file_range")
    made = part(ByteRange(source, 4000, 6000))  # type: ignore[operator]
    with pytest.raises(OSError, match="shorter"):
        NewFiles((NewFile("z", (NewTensor("a", "U8", (made.nbytes,), (made,)),)),)).write(tmp_path)


def test_bytes_are_made_when_their_turn_comes(tmp_path: Path):
    made: list[str] = []

    def content() -> bytes:
        made.append("now")
        return np.arange(3, dtype=np.float32).tobytes()

    file = NewFile("a.safetensors", (NewTensor("x", "F32", (3,), (computed(12, content),)),))
    assert (file.size - len(file.header), made) == (12, [])
    NewFiles((file,)).write(tmp_path)
    assert made == ["now"]
    assert load_file(tmp_path / "a.safetensors")["x"].tolist() == [0.0, 1.0, 2.0]
    wrong = NewFile("b.safetensors", (NewTensor("x", "F32", (3,), (computed(12, lambda: b"few"),)),))
    with pytest.raises(ValueError, match="3 bytes were made, the header promises 12"):
        NewFiles((wrong,)).write(tmp_path)
