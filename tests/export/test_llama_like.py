"""What is asked of a Llama-like checkpoint, and how little of it is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from gatenorm.api import open_model
from gatenorm.exports.llama_like import obstacles, outer, tied
from gatenorm.exports.registry import export_forms

TinyModels = Callable[..., Path]


@pytest.fixture
def stored_twice(tiny_models: TinyModels, tmp_path: Path) -> Path:
    """A model whose config ties the head to the embedding, and whose file has both all the same."""
    directory = tmp_path / "model"
    shutil.copytree(tiny_models("llama-gqa"), directory)
    config = (directory / "config.json").read_text()
    (directory / "config.json").write_text(
        config.replace('"tie_word_embeddings": false', '"tie_word_embeddings": true')
    )
    tensors = load_file(directory / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def test_a_head_beside_its_equal_is_read_once(stored_twice: Path):
    layout = open_model(stored_twice)
    assert layout.checkpoint.config["tie_word_embeddings"]
    assert tied(layout)
    read = layout.checkpoint.bytes_read
    assert read > 0
    assert tied(layout)
    assert layout.checkpoint.bytes_read == read


@pytest.mark.parametrize("metadata", [{"format": "pt"}, {"model.embed_tokens.weight": "lm_head.weight"}])
def test_the_one_matrix_of_a_tied_model_may_have_the_heads_name(stored_twice: Path, metadata: dict[str, str]):
    """As ``safetensors.torch.save_model`` writes it; transformers ties either to the other."""
    tensors = load_file(stored_twice / "model.safetensors")
    embedding = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, stored_twice / "model.safetensors", metadata=metadata)
    layout = open_model(stored_twice)
    assert tied(layout, read=False)
    assert (layout.checkpoint.float32(outer(layout, "embedding")) == embedding.numpy()).all()
    assert not any("tensor" in reason for reason in obstacles(layout))


def test_another_head_is_not_the_embedding(stored_twice: Path):
    tensors = load_file(stored_twice / "model.safetensors")
    tensors["lm_head.weight"][-1, -1] += 1
    save_file(tensors, stored_twice / "model.safetensors", metadata={"format": "pt"})
    assert not tied(open_model(stored_twice))


def test_saying_what_can_be_written_reads_no_weights(stored_twice: Path):
    layout = open_model(stored_twice)
    for target in export_forms():
        target.obstacles(layout)
    assert layout.checkpoint.bytes_read == 0


def test_a_window_in_a_model_that_does_not_say_its_context(tiny_models: TinyModels, tmp_path: Path):
    model = shutil.copytree(tiny_models("mistral"), tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": None}))
    layout = open_model(model)
    for target in export_forms():
        assert any(
            reason.startswith("its attention looks back 16 tokens (sliding") for reason in target.obstacles(layout)
        )
