"""Quantised weights: read as what they stand for, copied as they are stored."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import gatenorm
from gatenorm.checkpoint import open_store
from gatenorm.checkpoint.quantisation import methods
from gatenorm.families import attention_weights, detect_layout
from gatenorm.models.architecture import Architecture
from tests.checkpoint.quantisers import CASES, is_quantised, write
from tests.errors import refused

DROPPED = (2, 9)
ONE = torch.ones(1)


@pytest.fixture(scope="module", params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def models(name: str, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, Path]]:
    """A real model, quantised; the same numbers as float32; and as it was."""
    place, original = tmp_path_factory.mktemp("quantised"), shared / "models/novels-16L"
    write(CASES[name], original, place / "quantised", place / "whole")
    yield place / "quantised", place / "whole", original
    shutil.rmtree(place)


def test_every_weight_is_read_as_what_it_stands_for(models: tuple[Path, Path, Path]):
    quantised, whole = open_store(models[0]), open_store(models[1])
    assert set(quantised.specs) == set(whole.specs)
    for tensor, spec in whole.specs.items():
        assert quantised.spec(tensor).shape == spec.shape
        expected = whole.float32(tensor)
        np.testing.assert_allclose(quantised.float32(tensor), expected, rtol=1e-6, atol=1e-7)
        rows = slice(3, spec.shape[0] - 9)  # which no block, word or byte begins with
        np.testing.assert_allclose(quantised.float32(tensor, rows), expected[rows], rtol=1e-6, atol=1e-7)


def test_scores_are_those_of_the_numbers_and_near_those_of_the_unquantised_model(
    name: str, models: tuple[Path, Path, Path]
):
    quantised, whole, original = (gatenorm.score(model) for model in models)
    for layer in range(16):
        found, same, before = (scores.layers[layer].score for scores in (quantised, whole, original))
        assert found == pytest.approx(same, rel=1e-5)
        # By no more than the gate matrix itself has changed, which is the format's own error.
        gates = [gate(model, layer) for model in models[1:]]
        error = float(np.linalg.norm(gates[0] - gates[1]))
        assert abs(found - before) <= error * (1 + 1e-5)
        assert error < CASES[name].loss * before
    sizes = {name: spec.nbytes for name, spec in open_store(models[0]).specs.items()}
    read = sum(size for name, size in sizes.items() if name.endswith(("q_proj.weight", "k_proj.weight")))
    assert quantised.bytes_read <= 1.01 * read


def gate(model: Path, layer: int) -> np.ndarray:
    """The gate matrix of a model with three query heads a key head, in float64."""
    weights = attention_weights(detect_layout(open_store(model)), layer)
    q, k = (weights.q.float32().astype(float).reshape(2, 3, 32, 192), weights.k.float32().astype(float))
    return np.einsum("ghdi,gdj->ij", q, k.reshape(2, 32, 192))


def test_stored_bytes_are_copied_and_those_of_a_removed_attention_go_together(
    name: str, models: tuple[Path, Path, Path], tmp_path: Path
):
    if name.startswith("mlx"):
        with refused("model-not-prunable", "model") as caught:
            gatenorm.prune(models[0], tmp_path / "pruned", gatenorm.plan(models[0], drop=DROPPED))
        assert "quantised by mlx" in caught.value.problem
        return
    for source, out in zip(models[:2], ("quantised", "whole"), strict=True):
        gatenorm.prune(source, tmp_path / out, gatenorm.plan(source, drop=DROPPED))
    gone = tuple(f"model.layers.{layer}.{module}" for layer in DROPPED for module in ("self_attn", "input_layernorm"))
    source, pruned = open_store(models[0]), open_store(tmp_path / "quantised")
    assert set(pruned.stored) == {name for name in source.stored if not name.startswith(gone)}
    for tensor in pruned.stored:
        assert bytes(pruned.raw(tensor)) == bytes(source.raw(tensor))
    settings = CASES[name].key
    assert pruned.config[settings] == source.config[settings]
    whole = open_store(tmp_path / "whole")
    assert set(pruned.specs) == set(whole.specs)
    for tensor in filter(is_quantised, whole.specs):
        np.testing.assert_allclose(pruned.float32(tensor), whole.float32(tensor), rtol=1e-6, atol=1e-7)
    with safe_open(tmp_path / "quantised/model.safetensors", "np") as file:
        assert set(file.keys()) == set(pruned.stored)


def changed(model: Path, **more: torch.Tensor) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file({**tensors, **{name.replace("__", "."): t for name, t in more.items()}}, model / "model.safetensors")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose matrices are made of whole blocks, groups and words."""
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 4, "vocab_size": 96}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=8, num_key_value_heads=4)
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("tiny")
    transformers.LlamaForCausalLM(config).save_pretrained(place)
    return place


def small(name: str, tiny: Path, place: Path) -> Path:
    write(CASES[name], tiny, place / "quantised", place / "whole")
    return place / "quantised"


def test_biases_of_zeros_that_gptq_writes_and_scales_of_caches_are_carried(tiny: Path, tmp_path: Path):
    model = small("gptq", tiny, tmp_path)
    bias = "model__layers__{}__self_attn__q_proj__bias"
    changed(model, **{bias.format(i): torch.zeros(64) for i in range(4)}, model__layers__2__self_attn__k_scale=ONE)
    gatenorm.prune(model, tmp_path / "pruned", gatenorm.plan(model, drop=(1,)))
    kept = open_store(tmp_path / "pruned").stored
    assert [i for i in range(4) if f"model.layers.{i}.self_attn.q_proj.bias" in kept] == [0, 2, 3]
    assert "model.layers.2.self_attn.k_scale" in kept
    changed(model, model__layers__2__self_attn__what=ONE)
    with refused("not-loadable", "model") as caught:
        gatenorm.prune(model, tmp_path / "other", gatenorm.plan(model, drop=(1,)))
    assert "model.layers.2.self_attn.what" in caught.value.problem


def test_what_is_not_possible_with_quantised_weights_is_said_at_once(tiny: Path, tmp_path: Path):
    model = small("gptq", tiny, tmp_path)
    with pytest.raises(gatenorm.GatenormError) as caught:
        gatenorm.plan(model, drop=(2,), replace="fold")
    assert (caught.value.code, caught.value.given) == ("fold-quantised", "fold")
    layout = gatenorm.open_model(model)
    assert all("quantised by gptq" in form.why_not[0] for form in gatenorm.inspect(model).exports)
    # Keys and values are computed: four bits a weight are none of theirs.
    assert Architecture.of(layout).cache_bytes(10) == 2 * 10 * 4 * 2 * 4 * 8
    gatenorm.prune(model, tmp_path / "pruned", gatenorm.plan(model, drop=(1,)))
    text = tmp_path / "text.txt"
    text.write_text("a few words\n" * 99)
    with pytest.raises(gatenorm.GatenormError) as caught:
        gatenorm.recover(tmp_path / "pruned", tmp_path / "out", str(text))
    assert caught.value.code == "weights-quantised"


def test_a_weight_that_is_stored_twice_or_has_lost_its_scale(tiny: Path, tmp_path: Path):
    twice = small("gptq", tiny, tmp_path / "twice")
    changed(twice, model__layers__2__self_attn__q_proj__weight=torch.zeros(64, 64))
    with refused("weight-stored-twice") as caught:
        open_store(twice)
    assert "layers.2.self_attn.q_proj.weight" in caught.value.problem
    scaleless = small("fp8-block", tiny, tmp_path / "scaleless")
    changed(scaleless, model__layers__2__self_attn__x__weight=torch.zeros(64, 64, dtype=torch.float8_e4m3fn))
    with refused("scale-missing") as caught:
        open_store(scaleless)
    assert "layers.2.self_attn.x.weight" in caught.value.problem


WRONG = (None, [], {}, "x", -1, 0, 1, 3, 1.5, True, 2**70, [0, 0], ["a", "b"], [1, 2, 3], {"a": 1}, "8" * 50)


@pytest.mark.parametrize(
    "name", ["fp8-block", "gptq", "awq", "compressed-int4-asymmetric", "mlx-4bit", "compressed-fp8"]
)
def test_settings_of_any_kind_end_in_numbers_or_in_one_line(name: str, tiny: Path, tmp_path: Path):
    model = small(name, tiny, tmp_path)
    config = json.loads((model / "config.json").read_text())
    for path in places(config[CASES[name].key]):
        for value in WRONG:
            spoilt = copy.deepcopy(config)
            inner = spoilt[CASES[name].key]
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            (model / "config.json").write_text(json.dumps(spoilt))
            with suppress(gatenorm.GatenormError):
                attention_weights(detect_layout(open_store(model)), 1).q.float32()


def places(settings: Any) -> Iterator[tuple[str, ...]]:
    for key, value in settings.items() if isinstance(settings, dict) else ():
        yield (key,)
        yield from ((key, *rest) for rest in places(value))


@pytest.mark.parametrize("name", CASES)
def test_parts_of_any_shape_end_in_numbers_or_in_one_line(name: str, tiny: Path, tmp_path: Path):
    model = small(name, tiny, tmp_path)
    tensors = load_file(model / "model.safetensors")
    for part in [part for part in tensors if part.startswith("model.layers.1.self_attn.q_proj.")]:
        stored = tensors[part]
        flat = stored.reshape(-1)
        shapes = [flat[:0], flat[:1], flat, flat[: len(flat) // 2].clone(), stored[None], flat.view(torch.uint8)]
        for spoilt in (*shapes, torch.full_like(stored, 7), torch.zeros_like(stored)):
            save_file({**tensors, part: spoilt.contiguous()}, model / "model.safetensors")
            with suppress(gatenorm.GatenormError), np.errstate(all="ignore"):
                attention_weights(detect_layout(open_store(model)), 1).q.float32()
        save_file({key: t for key, t in tensors.items() if key != part}, model / "model.safetensors")
        with suppress(gatenorm.GatenormError):
            attention_weights(detect_layout(open_store(model)), 1).q.float32()


def test_the_documents_name_every_method():
    text = (Path(__file__).parents[2] / "docs/loading.md").read_text(encoding="utf-8")
    table = text[text.index("## Quantised checkpoints") : text.index("## The output of `inspect`")]
    for method in methods():
        assert method.partition("-")[0] in table.lower(), method
