"""Checkpoint directories: what is read is what safetensors reads, and only what is asked for; nothing is believed."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings, strategies as st

from gatenorm.checkpoint import open_store
from gatenorm.checkpoint.dtypes import STORAGE_TYPES
from gatenorm.errors import CheckpointError
from tests import errors
from tests.checkpoint.files import CONFIG, entry, header_bytes, write_checkpoint

ONE = safetensors.torch.save({"one": torch.arange(6.0).reshape(2, 3)})
TWO = safetensors.torch.save({"two": torch.ones(4)})


def refused(directory: Path) -> str:
    """The code of the error, whose text is one line of bearable length."""
    with pytest.raises(CheckpointError) as error:
        open_store(directory)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 700
    return error.value.code


def index(**files: Any) -> dict[str, Any]:
    return {"metadata": {"total_size": 1}, "weight_map": files}


@pytest.fixture(scope="module")
def variety(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """One tensor of every type that torch can save, with empty ones, a scalar and odd sizes in between."""
    draw = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for storage in STORAGE_TYPES.values():
        dtype = getattr(torch, storage.torch)
        raw = torch.randint(0, 2 if dtype == torch.bool else 256, (7 * 5 * storage.itemsize,), generator=draw)
        tensors[storage.name] = raw.to(torch.uint8).view(dtype).reshape(7, 5)
    tensors |= {
        "scalar": torch.tensor(2.5),
        "scalar bf16": torch.tensor(2.5, dtype=torch.bfloat16),
        "empty": torch.empty(0),
        "no rows": torch.empty(0, 3, dtype=torch.float16),
        "no columns": torch.empty(3, 0, dtype=torch.bfloat16),
        "cube": torch.randn(3, 4, 5, generator=draw),
    }
    directory = tmp_path_factory.mktemp("variety")
    data = safetensors.torch.save(tensors)
    return write_checkpoint(directory, {"model.safetensors": data}), tensors


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return not left.numel() or torch.equal(left.reshape(-1).view(torch.uint8), right.reshape(-1).view(torch.uint8))


def test_torch_is_what_safetensors_loads(variety: tuple[Path, dict[str, torch.Tensor]]) -> None:
    directory, _ = variety
    checkpoint = open_store(directory)
    theirs = safetensors.torch.load_file(directory / "model.safetensors")
    assert {t.name for t in checkpoint.specs.values()} == set(theirs)
    for name, tensor in theirs.items():
        ours = checkpoint.torch(name)
        assert same_bits(ours, tensor), name
        if ours.numel():
            ours.reshape(-1)[:1] = 0  # a copy of its own: writing to it must neither crash nor reach the file
            assert same_bits(checkpoint.torch(name), tensor)


def test_float32_is_what_torch_converts(variety: tuple[Path, dict[str, torch.Tensor]]) -> None:
    directory, tensors = variety
    checkpoint = open_store(directory)
    for name, tensor in tensors.items():
        if not tensor.dtype.is_floating_point or name == "F8_E8M0":
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            ours = checkpoint.float32(name)
        np.testing.assert_array_equal(ours, tensor.to(torch.float32).numpy())
        assert ours.flags.writeable
        assert ours.shape == tuple(tensor.shape)
    for name in ("I64", "BOOL", "F8_E8M0"):
        with errors.refused("dtype-no-floats", kind=CheckpointError) as caught:
            checkpoint.float32(name)
        assert name in caught.value.problem


@given(start=st.none() | st.integers(-9, 9), stop=st.none() | st.integers(-9, 9))
@settings(max_examples=60, deadline=None)
def test_rows_are_rows_of_the_whole(
    variety: tuple[Path, dict[str, torch.Tensor]], start: int | None, stop: int | None
) -> None:
    checkpoint = open_store(variety[0])
    rows = slice(start, stop)
    for name in ("F32", "F16", "BF16", "F8_E5M2", "cube", "no rows", "no columns"):
        before = checkpoint.bytes_read
        part = checkpoint.raw(name, rows)
        np.testing.assert_array_equal(part.view("u1"), checkpoint.raw(name)[rows].view("u1"))
        assert checkpoint.bytes_read - before == part.nbytes + checkpoint.spec(name).nbytes


@pytest.mark.parametrize(("name", "rows"), [("scalar", slice(0, 1)), ("F32", slice(0, 4, 2)), ("F32", slice(4, 0, -1))])
def test_what_is_no_run_of_rows_is_refused(
    variety: tuple[Path, dict[str, torch.Tensor]], name: str, rows: slice
) -> None:
    with errors.refused("rows-wrong", kind=CheckpointError):
        open_store(variety[0]).raw(name, rows)


@pytest.mark.parametrize("padding", range(8))
def test_data_at_odd_offsets(tmp_path: Path, padding: int) -> None:
    """The format aligns nothing: a header of any length, and tensors of one byte in front."""
    values = np.arange(12, dtype="<f4").reshape(3, 4)
    table = {"byte": entry([1], 0, 1, "U8"), "values": entry([3, 4], 1, 49)}
    text = json.dumps(table).encode() + b" " * padding
    write_checkpoint(tmp_path, {"model.safetensors": header_bytes(text) + b"\x07" + values.tobytes()})
    checkpoint = open_store(tmp_path)
    np.testing.assert_array_equal(checkpoint.float32("values"), values)
    np.testing.assert_array_equal(checkpoint.torch("values").numpy(), values)
    np.testing.assert_array_equal(checkpoint.raw("values", slice(1, 3)), values[1:])


def test_nothing_is_copied_and_views_outlive_the_checkpoint(variety: tuple[Path, dict[str, torch.Tensor]]) -> None:
    checkpoint = open_store(variety[0])
    first, second = checkpoint.raw("F32"), checkpoint.raw("F32")
    assert np.shares_memory(first, second)
    assert not first.flags.writeable
    del checkpoint, second
    gc.collect()
    assert first.tobytes() == variety[1]["F32"].numpy().tobytes()


def anonymous_memory() -> int:
    """Bytes of the process that no file backs."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is counted by Linux's /proc")
def test_reading_a_little_of_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    rows, width = 2**18, 2048
    size = rows * width * 2
    table = {"large": entry([rows, width], 0, size, "BF16"), "small": entry([2], size, size + 8)}
    head = header_bytes(table)
    write_checkpoint(tmp_path, {"model.safetensors": head})
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(len(head) + size)
        file.write(struct.pack("<ff", 1.0, 2.0))  # the gigabyte before it is a hole
    before = anonymous_memory()
    checkpoint = open_store(tmp_path)
    view = checkpoint.raw("large")
    assert (view.shape, view.nbytes) == ((rows, width), size)
    np.testing.assert_array_equal(checkpoint.float32("small"), [1.0, 2.0])
    checkpoint.bytes_read = 0
    part = checkpoint.float32("large", slice(rows - 100, rows))
    assert checkpoint.bytes_read == 100 * width * 2
    assert part.shape == (100, width)
    assert not view[::64].any()  # touches 16 MiB of the mapping
    assert anonymous_memory() - before < 8 * 2**20


def test_sizes_and_hashes(tmp_path: Path) -> None:
    files = {"a.safetensors": ONE, "b.safetensors": TWO}
    checkpoint = open_store(
        write_checkpoint(tmp_path, files, index(one="a.safetensors", two="b.safetensors"), b'{"model_type": "llama"}')
    )
    assert checkpoint.files == {"a.safetensors": len(ONE), "b.safetensors": len(TWO)}
    assert checkpoint.config_sha256 == hashlib.sha256(b'{"model_type": "llama"}').hexdigest()
    assert "one" in checkpoint
    assert "three" not in checkpoint
    with errors.refused("tensor-missing", kind=CheckpointError) as caught:
        checkpoint.spec("three")
    assert "three" in caught.value.problem


def test_the_hubs_cache_of_links(tmp_path: Path) -> None:
    """snapshots/<commit>/* are links to ../../blobs/<hash>."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    files = {"a.safetensors": ONE, "b.safetensors": TWO}
    write_checkpoint(blobs, files, index(one="a.safetensors", two="b.safetensors"))
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(blobs.iterdir())):
        target = file.rename(blobs / f"{number:064x}")
        (snapshot / file.name).symlink_to(os.path.relpath(target, snapshot))
    checkpoint = open_store(snapshot)
    assert checkpoint.float32("one")[1, 2] == 5
    assert checkpoint.files == {"a.safetensors": len(ONE), "b.safetensors": len(TWO)}
    (blobs / f"{1:064x}").unlink()  # the cache was cleaned: links that dangle
    assert refused(snapshot) == "shard-missing"


# ---- directories that are not what they should be


def test_no_such_directory(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere") == "model-missing"
    (tmp_path / "file").write_text("x")
    assert refused(tmp_path / "file") == "format-unknown"


def test_no_config(tmp_path: Path) -> None:
    assert refused(write_checkpoint(tmp_path, {"model.safetensors": ONE}, config=None)) == "config-missing"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ([1], "json-no-object"),
        (b'"text"', "json-no-object"),
        (b"null", "json-no-object"),
        (b"{", "json-unreadable"),
        (b"", "json-unreadable"),
        (b"\xff\xfe\x00", "json-unreadable"),
        (b'{"a": ' + b"[" * 200_000, "json-unreadable"),
        (b'{"a": ' + b"9" * 5000 + b"}", "json-unreadable"),
    ],
    ids=lambda v: str(v)[:16],
)
def test_a_config_that_is_no_object(tmp_path: Path, config: Any, expected: str) -> None:
    assert refused(write_checkpoint(tmp_path, {"model.safetensors": ONE}, config=config)) == expected


def test_no_weights(tmp_path: Path) -> None:
    assert refused(write_checkpoint(tmp_path, {})) == "weights-missing"


def test_a_directory_of_other_things_has_no_config(tmp_path: Path) -> None:
    (tmp_path / "notes.docx").write_bytes(b"mine")
    assert refused(tmp_path) == "config-missing"


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "x.pth", "x.ckpt"]
)
def test_pickled_weights_are_not_touched(tmp_path: Path, name: str) -> None:
    assert refused(write_checkpoint(tmp_path, {name: b"\x80\x02}q\x00."})) == "weights-pickled"


@pytest.mark.parametrize("data", [b"", ONE[:7], ONE[:20], ONE[:-1], b"<html>Not found</html>", b"version https://gi"])
def test_a_file_that_was_cut_or_never_was_one(tmp_path: Path, data: bytes) -> None:
    assert refused(write_checkpoint(tmp_path, {"model.safetensors": data})) == "safetensors-damaged"


def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {})
    (tmp_path / "model.safetensors").mkdir()
    assert refused(tmp_path) == "file-unreadable"


@pytest.mark.parametrize(
    "file",
    ["../b.safetensors", "/etc/passwd", "sub/b.safetensors", "..", ".", "", "sub\\b.safetensors", "b.safetensors/",
     "README.md", "config.json", "b", ".safetensors", "b.SAFETENSORS",
     "./b.safetensors", 7, None, ["b.safetensors"], "../" * 4000],
)  # fmt: skip
def test_an_index_that_points_elsewhere(tmp_path: Path, file: Any) -> None:
    (tmp_path / "model" / "sub").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "model", tmp_path / "model" / "sub"):
        (place / "b.safetensors").write_bytes(TWO)
    directory = write_checkpoint(tmp_path / "model", {}, index(two=file))
    assert refused(directory) == "index-leads-elsewhere"


@pytest.mark.parametrize("file", ["absent.safetensors", "a\0b.safetensors", "x" * 5000 + ".safetensors"])
def test_a_shard_that_is_missing(tmp_path: Path, file: str) -> None:
    assert refused(write_checkpoint(tmp_path, {"a.safetensors": ONE}, index(one=file))) == "shard-missing"


@pytest.mark.parametrize("content", [{}, {"weight_map": {}}, {"weight_map": ["a"]}, {"weight_map": None}])
def test_an_index_without_a_map(tmp_path: Path, content: Any) -> None:
    assert refused(write_checkpoint(tmp_path, {"a.safetensors": ONE}, content)) == "index-damaged"


@pytest.mark.parametrize("content", [b"[]", b"{", b"[" * 200_000])
def test_an_index_that_is_no_object(tmp_path: Path, content: bytes) -> None:
    assert refused(write_checkpoint(tmp_path, {"a.safetensors": ONE}, content)).startswith("json-")


def test_a_tensor_in_another_shard_than_the_index_says(tmp_path: Path) -> None:
    files = {"a.safetensors": ONE, "b.safetensors": TWO}
    swapped = index(one="b.safetensors", two="a.safetensors")
    assert refused(write_checkpoint(tmp_path, files, swapped)) == "index-wrong"
    phantom = index(one="a.safetensors", two="b.safetensors", three="b.safetensors")
    assert refused(write_checkpoint(tmp_path, files, phantom)) == "index-wrong"


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    both = safetensors.torch.save({"one": torch.zeros(2, 3), "two": torch.ones(4)})
    directory = write_checkpoint(
        tmp_path, {"a.safetensors": ONE, "b.safetensors": both}, index(one="a.safetensors", two="b.safetensors")
    )
    assert refused(directory) == "tensor-twice"


def test_a_shard_that_was_cut(tmp_path: Path) -> None:
    files = {"a.safetensors": ONE, "b.safetensors": TWO[:-3]}
    directory = write_checkpoint(tmp_path, files, index(one="a.safetensors", two="b.safetensors"), CONFIG)
    assert refused(directory) == "safetensors-damaged"
