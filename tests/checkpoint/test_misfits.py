"""What people give in the place of a checkpoint is recognised for what it is."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import gatenorm
from gatenorm.checkpoint import open_store
from gatenorm.errors import CheckpointError, FamilyError
from gatenorm.families import detect_layout
from tests import errors
from tests.checkpoint.files import write_checkpoint
from tests.checkpoint.test_checkpoint import ONE, TWO, index

TinyModels = Callable[..., Path]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4096\n"


def refused(place: Path, code: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_store(place)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_git_lfs_pointers(tmp_path: Path):
    single = write_checkpoint(tmp_path / "single", {"model.safetensors": POINTER})
    assert "git lfs pull" in refused(single, "lfs-pointer")
    files = {"a.safetensors": ONE, "b.safetensors": POINTER}
    shards = write_checkpoint(tmp_path / "shards", files, index(one="a.safetensors", two="b.safetensors"))
    assert "b.safetensors" in refused(shards, "lfs-pointer")
    for name in ("model.gguf", "pytorch_model.bin"):
        refused(write_checkpoint(tmp_path / "named", {name: POINTER}) / name, "lfs-pointer")


def test_an_adapter_is_no_model(tmp_path: Path):
    adapter = write_checkpoint(tmp_path, {"adapter_model.safetensors": ONE}, config=None)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    assert "org/base" in refused(adapter, "adapter-alone")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": ["x"]}')
    refused(adapter, "adapter-alone")


def test_shards_without_an_index(tmp_path: Path):
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    said = refused(write_checkpoint(tmp_path, dict.fromkeys(names, ONE)), "index-missing")
    assert "model.safetensors.index.json" in said


def test_files_and_directories_in_each_other_s_place(tmp_path: Path):
    model = write_checkpoint(tmp_path / "model", {"model.safetensors": ONE})
    for name in ("model.safetensors", "config.json"):
        assert refused(model / name, "format-unknown").endswith(str(model))
    files = write_checkpoint(tmp_path / "files", {"q4.gguf": b"GGUF"}, config=None)
    assert str(files / "q4.gguf") in refused(files, "gguf-in-directory")
    (tmp_path / "q8.gguf").mkdir()
    refused(tmp_path / "q8.gguf", "config-missing")


@pytest.mark.parametrize("model_type", ["mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"])
def test_a_model_without_softmax_attention(tmp_path: Path, model_type: str):
    write_checkpoint(tmp_path, {"model.safetensors": TWO}, config={"model_type": model_type})
    with errors.refused("no-attention", "model", FamilyError) as caught:
        detect_layout(open_store(tmp_path))
    assert model_type in caught.value.problem


# ---- pickled weights, on request


def pickled(model: Path, place: Path, shards: int = 1) -> Path:
    """The model with its weights in the format of ``torch.save``; the path to name."""
    store = open_store(model)
    tensors = {name: store.torch(name).clone() for name in store.specs}
    place.mkdir()
    shutil.copyfile(model / "config.json", place / "config.json")
    if shards == 1:
        torch.save(tensors, place / "pytorch_model.bin")
        return place / "pytorch_model.bin"
    weight_map = {name: f"pytorch_model-{i % shards + 1}.bin" for i, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        torch.save({name: tensors[name] for name in tensors if weight_map[name] == file}, place / file)
    (place / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return place / "pytorch_model.bin.index.json"


@pytest.mark.parametrize("shards", [1, 2])
def test_pickled_weights_that_are_named_are_read_and_pruned(tiny_models: TinyModels, tmp_path: Path, shards: int):
    model = tiny_models("llama-gqa", dtype="bfloat16")
    file = pickled(model, tmp_path / "pickled", shards)
    assert f"{file.parent}/" in refused(file.parent, "weights-pickled")
    assert gatenorm.score(file).layers == gatenorm.score(model).layers
    gatenorm.prune(file, tmp_path / "pruned", gatenorm.plan(file, drop=(1,)))
    gatenorm.prune(model, tmp_path / "same", gatenorm.plan(model, drop=(1,)))
    found, expected = open_store(tmp_path / "pruned"), open_store(tmp_path / "same")
    assert set(found.specs) == set(expected.specs)
    for name in expected.specs:
        np.testing.assert_array_equal(found.raw(name), expected.raw(name))
    assert not list((tmp_path / "pruned").glob("*.bin*"))


@pytest.mark.filterwarnings("error")
def test_a_pickle_of_another_protocol_is_read_without_a_word(tmp_path: Path):
    write_checkpoint(tmp_path, {})
    torch.save({"x": torch.ones(2)}, tmp_path / "pytorch_model.bin", pickle_protocol=3)
    assert open_store(tmp_path / "pytorch_model.bin").raw("x").tolist() == [1, 1]


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_no_code_of_a_pickle_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_checkpoint(tmp_path, {})
    file = tmp_path / "pytorch_model.bin"
    for content in ({"x": Evil()}, [1], {"x": 7}, {"x": torch.zeros(4, 4).T}, {1: torch.zeros(2)}):
        torch.save(content, file)
        refused(file, "pickle-unreadable")
    torch.save({"x": torch.zeros(2)}, file, _use_new_zipfile_serialization=False)
    refused(file, "pickle-unreadable")
    torch.save({"x": torch.zeros(400)}, file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(tmp_path / "packed.bin", "w", zipfile.ZIP_DEFLATED) as packed:
        for record in source.infolist():
            packed.writestr(record.filename, source.read(record))
    refused(tmp_path / "packed.bin", "pickle-unreadable")
    assert capsys.readouterr().out == ""
