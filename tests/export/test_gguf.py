"""GGUF files in llama.cpp itself: the same log-probabilities and the same tokens as the pruned checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gatenorm
from gatenorm.api import open_model
from gatenorm.engines import Continuation
from gatenorm.exports.gguf import writer as gguf
from gatenorm.exports.registry import Variant, export_form
from gatenorm.exports.verify.verify import verify
from gatenorm.models import loading as reference
from tests.errors import refused
from tests.export import gguf_models
from tests.replaced import write_replaced

pytest.importorskip("gguf")
llamacpp = pytest.importorskip("gatenorm.engines.llamacpp.greedy")
pytest.importorskip("xllamacpp")

PROMPTS = ([7], [3, 300, 17, 44, 5, 291, 8, 12, 12, 90, 133, 2])
TOKENS = 64
# Float32 in two programs; what transformers itself differs by between one pass and a cache is a tenth of it.
EXACT = 1e-3
DROPS = {"nothing": (), "middle": (2, 3), "first": (0,), "first-two-and-last": (0, 1, -1)}

Models = Callable[[str], Path]


@pytest.fixture(scope="session")
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """``models(name)``: a tiny random model written once, or the directory of a trained one."""
    written: dict[str, Path] = {}

    def directory(name: str) -> Path:
        if name not in gguf_models.CASES:
            return Path(request.getfixturevalue("shared")) / "models" / name
        if name not in written:
            written[name] = gguf_models.write(name, tmp_path_factory.mktemp(name))
        return written[name]

    return directory


def pruned(model: Path, drop: tuple[int, ...], out: Path) -> Path:
    """The checkpoint without the attention of ``drop``, of which negative numbers count from the end."""
    layers = open_model(model).layers
    indices = sorted({i % layers for i in drop})
    return gatenorm.prune(model, out, gatenorm.plan(model, drop=indices)).path if indices else model


def exported(directory: Path, out: Path, dtype: str = "f32") -> Path:
    gguf.write(open_model(directory), out, dtype=dtype)
    return out


def loaded(directory: Path) -> Any:
    """The reference: transformers in float32."""
    return reference.load(directory, dtype=torch.float32)


def expected(model: Any, prompt: list[int], found: Continuation) -> np.ndarray:
    """``[tokens, vocabulary]`` log-probabilities where the engine chose."""
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *found.tokens]])).logits[0, len(prompt) - 1 : -1]
        return np.asarray(logits.double().log_softmax(-1))


def furthest(wanted: np.ndarray, found: Continuation) -> float:
    """The largest difference of two log-probabilities of which the engine tells."""
    return float(np.nanmax(np.abs(wanted - found.logprobs)))


def greedy(wanted: np.ndarray, found: Continuation) -> bool:
    """Whether every token is the likeliest, or as good as it within the error of the arithmetic."""
    chosen = wanted[np.arange(len(found.tokens)), list(found.tokens)]
    return bool((wanted.max(axis=1) - chosen < 2 * EXACT).all())


# Mean divergence of the likeliest tokens, nats a token; five times what novels-16L showed.
CLOSE = {"bf16": 1e-4, "f16": 1e-5, "q8_0": 1e-3, "q6_k": 2e-3, "q4_k_m": 1e-2}


@pytest.mark.shared
@pytest.mark.parametrize("dtype", CLOSE)
def test_narrower_types_stay_close(models: Models, dtype: str, tmp_path: Path):
    """Layer 0 and the last pruned: quantisers have stumbled over counts of attentions (ggml-org/llama.cpp #6838)."""
    directory = pruned(models("novels-16L"), (0, 5, -1), tmp_path / "pruned")
    engine = llamacpp.LlamaCppGreedy(exported(directory, tmp_path / "model.gguf", dtype))
    try:
        (found,) = engine.continue_greedily(PROMPTS[1:], 32)
    finally:
        engine.close()
    wanted = expected(loaded(directory), PROMPTS[1], found)
    divergence = np.nansum(np.exp(wanted) * (wanted - found.logprobs), axis=1).mean()
    assert abs(divergence) < CLOSE[dtype]


def test_an_end_of_text_token_ends_nothing(models: Models, tmp_path: Path):
    """Byte tokens that are no whole character, and the end of the text, are told of like any others."""
    directory = models("qwen2")
    engine = llamacpp.LlamaCppGreedy(exported(directory, tmp_path / "model.gguf"))
    try:
        (found,) = engine.continue_greedily([[0, 130]], TOKENS)
        assert not np.isnan(found.logprobs).all(axis=1).any()
        assert found.logprobs[np.arange(TOKENS), list(found.tokens)].tolist() == np.nanmax(found.logprobs, 1).tolist()
        with refused("context-too-short", "tokens", gatenorm.errors.EvaluationError):
            engine.continue_greedily([[0] * 200], TOKENS)
    finally:
        engine.close()
        engine.close()


@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
@pytest.mark.parametrize(
    "name",
    [
        "llama3",
        "qwen2",
        "mistral",
        *(pytest.param(n, marks=pytest.mark.shared) for n in ("stories260K", "stories3M", "novels-16L")),
    ],
)
def test_llamacpp_computes_what_the_pruned_checkpoint_computes(
    models: Models, name: str, drop: tuple[int, ...], tmp_path: Path
):
    directory = pruned(models(name), drop, tmp_path / "pruned")
    model, engine = loaded(directory), llamacpp.LlamaCppGreedy(exported(directory, tmp_path / "model.gguf"))
    try:
        for prompt, found in zip(PROMPTS, engine.continue_greedily(PROMPTS, TOKENS), strict=True):
            wanted = expected(model, prompt, found)
            assert len(found.tokens) == TOKENS
            assert not np.isnan(found.logprobs[0]).all()
            assert furthest(wanted, found) < EXACT
            assert greedy(wanted, found)
        assert engine.cached_layers == len(open_model(directory).attention_layers)
    finally:
        engine.close()


# Sublayers by kind, taken out one kind after the other: MLPs alone, blocks at both ends, and layers that lost either.
MIXED = {
    "mlps": (("mlp", (0, 2, -1)),),
    "blocks": (("block", (0, 3, -1)),),
    "everything": (("block", (0, -1)), ("attention", (1, 4)), ("mlp", (2,))),
}


def pruned_of(model: Path, steps: tuple[tuple[str, tuple[int, ...]], ...], out: Path) -> Path:
    """The checkpoint without those sublayers, pruned once for each kind."""
    for kind, drop in steps:
        layers = open_model(model).layers
        plan = gatenorm.plan(model, drop=sorted({i % layers for i in drop}), kind=kind)
        model = gatenorm.prune(model, out / kind, plan).path
    return model


@pytest.mark.parametrize("steps", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("name", ["llama3", pytest.param("novels-16L", marks=pytest.mark.shared)])
def test_llamacpp_computes_what_a_model_without_mlps_and_blocks_computes(
    models: Models, name: str, steps: tuple[tuple[str, tuple[int, ...]], ...], tmp_path: Path
):
    directory = pruned_of(models(name), steps, tmp_path)
    layout = open_model(directory)
    model, engine = loaded(directory), llamacpp.LlamaCppGreedy(exported(directory, tmp_path / "model.gguf"))
    try:
        for prompt, found in zip(PROMPTS, engine.continue_greedily(PROMPTS, 16), strict=True):
            wanted = expected(model, prompt, found)
            assert furthest(wanted, found) < EXACT
            assert greedy(wanted, found)
        assert engine.cached_layers == len(layout.attention_layers)
    finally:
        engine.close()
    variant = Variant.exported(tmp_path / "model.gguf")
    assert (variant.edits, variant.identity.layers) == (layout.edits, layout.layers)


@pytest.mark.parametrize("dtype", ["f32", "q8_0"])
@pytest.mark.parametrize("operation", ["linear", "linear:8"])
@pytest.mark.parametrize("case", [("middle", (1, 3)), ("first", (0, 2))], ids=lambda case: case[0])
def test_llamacpp_applies_a_linear_map_in_the_place_of_an_attention(
    models: Models, case: tuple[str, tuple[int, ...]], operation: str, dtype: str, tmp_path: Path
):
    directory = write_replaced(models("qwen2"), tmp_path / "replaced", case[1], operation)
    found = verify(exported(directory, tmp_path / "model.gguf", dtype), open_model(directory), "llamacpp")
    assert found.faults == ()
    assert found.cached_layers == open_model(directory).layers - 2
    assert found.wrong_tensors == 0
    notes = export_form("gguf").remarks(open_model(directory))
    assert not [note for note in notes if "zero" in note]
    assert any("costs as much as one" in note for note in notes) == (operation == "linear:8")


def test_a_server_that_is_closed_at_once_stops(models: Models, tmp_path: Path):
    """It hangs where it is stopped before its loop has begun, or asked at that moment, unless it is asked again."""
    path = exported(models("qwen2"), tmp_path / "model.gguf")
    for _ in range(10):
        llamacpp.LlamaCppGreedy(path).close()
