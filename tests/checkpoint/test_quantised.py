"""Quantised weights: read as what they stand for, copied as they are stored."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import gatenorm
from gatenorm.checkpoint import open_store
from gatenorm.checkpoint.quantisation import methods
from gatenorm.families import attention_weights, detect_layout
from tests.checkpoint.quantisers import CASES, is_quantised, write

DROPPED = (2, 9)


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
        with pytest.raises(gatenorm.GatenormError, match="quantised by mlx: mlx-lm has no class for pruned models"):
            gatenorm.prune(models[0], tmp_path / "pruned", gatenorm.plan(models[0], drop=DROPPED))
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


def test_the_documents_name_every_method():
    text = (Path(__file__).parents[2] / "docs/loading.md").read_text(encoding="utf-8")
    table = text[text.index("## Quantised checkpoints") : text.index("## The output of `inspect`")]
    for method in methods():
        assert method.partition("-")[0] in table.lower(), method
