"""The handle of a model: lazy, with and without sublayers, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gatenorm.api import open_model, plan, prune
from gatenorm.models.model import Model
from gatenorm.records import Edits
from tests.errors import refused
from tests.tiny_models import build, tokens

TinyModels = Callable[..., Path]


@pytest.fixture
def model(tiny_models: TinyModels) -> Model:
    return Model.of_layout(open_model(tiny_models("llama-gqa")))


def test_nothing_is_loaded_before_it_is_needed(model: Model):
    assert (model.computes_in, model.vocabulary, model.has_tokenizer) == ("float32", model.config.vocab_size, False)
    with refused("tokenizer-unreadable"):
        _ = model.tokenizer
    assert not model.loaded
    first = model.module
    assert model.loaded
    assert model.load_seconds > 0
    assert model.module is first
    model.release()
    assert not model.loaded


def test_what_was_edited_before_is_among_the_edits_of_the_model_with_fewer_sublayers(
    tiny_models: TinyModels, tmp_path: Path
):
    source = tiny_models("llama-mha")
    out = prune(source, tmp_path / "out", plan(source, drop=[4], kind="mlp")).path
    model = Model.of_layout(open_model(out))
    expected = Edits.of("mlp", [4]) | Edits.of("attention", [1])
    with model.without([1]) as less:
        assert less.edits == expected
        assert less.identity == model.identity
        silent = less.module(tokens(), use_cache=False).logits
    assert model.edits == Edits.of("mlp", [4])
    copied = model.edited_copy(Edits.of("attention", [1]))
    assert copied.edits == expected
    assert torch.equal(copied.module(tokens(), use_cache=False).logits, silent)


@pytest.mark.parametrize("kind", ["attention", "mlp", "block"])
def test_a_copy_without_any_kind_is_the_pruned_checkpoint(kind: str, tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-gqa")
    out = prune(source, tmp_path / "out", plan(source, drop=[2], kind=kind)).path
    less = Model.of_layout(open_model(source)).edited_copy(Edits.of(kind, [2]))
    pruned = Model.of_layout(open_model(out))
    assert less.edits == pruned.edits
    assert torch.equal(less.module(tokens()).logits, pruned.module(tokens()).logits)


def test_one_spread_over_devices_is_pruned_itself_and_loaded_anew(tiny_models: TinyModels):
    layout = open_model(tiny_models("llama-gqa"))
    spread = Model.of_layout(layout, device="auto", dtype="float32")
    less = spread.edited_copy(Edits.of("attention", [2]))
    logits = less.module(tokens()).logits
    assert not spread.loaded
    whole = Model.of_layout(layout).edited_copy(Edits.of("attention", [2]))
    torch.testing.assert_close(logits, whole.module(tokens()).logits)


def test_a_model_in_memory_has_no_layout_and_loses_nothing():
    model = Model.of_module(build("llama-gqa"), None)
    assert (model.name, model.device, model.dtype, model.edits) == ("live model", "cpu", "float32", Edits())
    with refused("model-in-memory"), model.without([1]):
        pass
