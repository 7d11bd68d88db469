"""`verify` with transformers as the engine: equal, a swapped tensor, other weights, and what it refuses."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import gatenorm
from gatenorm.api import open_model
from gatenorm.engines import Continuation, engine_for, engine_named, engines
from gatenorm.engines.transformers.greedy import TransformersGreedy
from gatenorm.errors import EvaluationError
from gatenorm.exports.verify.verify import _Compared, _divergence, _figures, form_of, prompts, verify
from tests.errors import refused
from tests.replaced import write_replaced

TinyModels = Callable[..., Path]


@pytest.fixture
def pruned(tiny_models: TinyModels, tmp_path: Path) -> Path:
    model = tiny_models("llama-gqa")
    return gatenorm.prune(model, tmp_path / "pruned", gatenorm.plan(model, drop=[0, 2])).path


def swap(directory: Path, first: str, second: str) -> None:
    """Exchange two tensors of equal shape in the weight file, as a careless converter might."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    tensors[first], tensors[second] = tensors[second].clone(), tensors[first].clone()
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("operation", ["linear", "linear:8", "constant"])
def test_a_directory_with_something_in_the_place_of_attentions_is_held_as_strictly(
    operation: str, tiny_models: TinyModels, tmp_path: Path
):
    source = tiny_models("llama-gqa")
    replaced = write_replaced(source, tmp_path / "replaced", (0, 2), operation)
    verdict = verify(replaced, open_model(replaced), tokens=20)
    assert verdict.faults == ()
    assert (verdict.largest_difference < 1e-4, verdict.cached_layers) == (True, 2)
    tensor = "down" if operation == "linear:8" else "value" if operation == "constant" else "matrix"
    other = shutil.copytree(replaced, tmp_path / "other")
    swap(other, f"model.layers.0.self_attn.{tensor}", f"model.layers.2.self_attn.{tensor}")
    assert verify(other, open_model(replaced), tokens=8).faults
    removed = gatenorm.prune(source, tmp_path / "removed", gatenorm.plan(source, drop=(0, 2))).path
    assert verify(removed, open_model(replaced), tokens=8).faults


def test_a_pruned_directory_agrees_with_itself(pruned: Path):
    verdict = verify(pruned, open_model(pruned), tokens=40)
    figures = verdict.numbers()
    assert verdict.faults == ()
    assert figures["largest_difference"] < 1e-4  # step by step with a cache against one pass
    assert figures["other_choices"] == 0
    assert figures["tokens"] == 4 * 40
    assert figures["cached_layers"] == 2  # of four layers
    assert verdict.protocol.engine == "transformers"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight"),
        ("model.layers.1.self_attn.k_proj.weight", "model.layers.1.self_attn.v_proj.weight"),
        ("model.layers.1.input_layernorm.weight", "model.layers.1.post_attention_layernorm.weight"),
    ],
)
def test_a_swapped_tensor_is_found(pruned: Path, tmp_path: Path, first: str, second: str):
    other = tmp_path / "other"
    shutil.copytree(pruned, other)
    swap(other, first, second)
    verdict = verify(other, open_model(pruned), tokens=16)
    assert verdict.faults
    assert verdict.numbers()["largest_difference"] > 0.1


def test_a_pruned_model_is_not_its_parent(pruned: Path, tiny_models: TinyModels):
    assert verify(pruned, open_model(tiny_models("llama-gqa")), tokens=8).faults


def test_the_difference_is_that_of_the_logits(pruned: Path, monkeypatch: pytest.MonkeyPatch):
    """A known error put on one log-probability comes out as the largest difference, and as no other choice."""
    honest = TransformersGreedy.continue_greedily

    def off_by_a_quarter(self: TransformersGreedy, asked: list[list[int]], tokens: int) -> list[Continuation]:
        found = honest(self, asked, tokens)
        for one in found:
            one.logprobs[3, 5] += 0.25
        return found

    monkeypatch.setattr(TransformersGreedy, "continue_greedily", off_by_a_quarter)
    verdict = verify(pruned, open_model(pruned), tokens=8)
    assert verdict.numbers()["largest_difference"] == pytest.approx(0.25, abs=1e-3)
    assert verdict.numbers()["other_choices"] == 0
    assert len(verdict.faults) == 1
    assert verify(pruned, open_model(pruned), tokens=8, tolerance=0.3).faults == ()


def test_a_wrong_choice_is_a_fault_where_no_near_tie_excuses_it(pruned: Path, monkeypatch: pytest.MonkeyPatch):
    honest = TransformersGreedy.continue_greedily

    def second_best(self: TransformersGreedy, asked: list[list[int]], tokens: int) -> list[Continuation]:
        found = honest(self, [[*prompt] for prompt in asked], 1)
        return [dataclasses.replace(c, tokens=(int(np.argsort(c.logprobs[0])[-2]),)) for c in found]

    monkeypatch.setattr(TransformersGreedy, "continue_greedily", second_best)
    verdict = verify(pruned, open_model(pruned), tokens=1)
    assert verdict.numbers()["other_choices"] == 4
    assert verdict.faults == ("4 of 4 greedy tokens are not the reference's",)


def test_an_engine_that_gives_nan_is_refused(pruned: Path, monkeypatch: pytest.MonkeyPatch):
    def silent(self: TransformersGreedy, asked: list[list[int]], tokens: int) -> list[Continuation]:
        return [Continuation((1,) * tokens, np.full((tokens, self.vocabulary), np.nan, np.float32)) for _ in asked]

    monkeypatch.setattr(TransformersGreedy, "continue_greedily", silent)
    with refused("not-finite", kind=EvaluationError):
        verify(pruned, open_model(pruned), tokens=4)


def test_the_engine_counts_what_its_cache_holds(tiny_models: TinyModels, pruned: Path):
    assert TransformersGreedy(tiny_models("llama-gqa")).cached_layers == 4
    assert TransformersGreedy(pruned).cached_layers == 2


def test_the_engine_continues_as_generate_does(pruned: Path):
    model = gatenorm.load(pruned, dtype=torch.float32)
    prompt = [5, 17, 40, 8]
    expected = model.generate(
        torch.tensor([prompt]), max_new_tokens=12, min_new_tokens=12, do_sample=False, pad_token_id=0
    )
    (found,) = TransformersGreedy(pruned).continue_greedily([prompt], 12)
    assert list(found.tokens) == expected[0, len(prompt) :].tolist()
    assert np.exp(found.logprobs.astype(np.float64)).sum(1) == pytest.approx(np.ones(12), abs=1e-5)


def test_prompts_fit_the_context_and_are_seeded():
    assert prompts(100, 64, 40) == prompts(100, 64, 40)
    assert prompts(100, 64, 40) != prompts(100, 64, 40, seed=1)
    assert max(map(len, prompts(100, 64, 40))) == 24
    with refused("tokens-too-many", "tokens", EvaluationError):
        prompts(100, 64, 64)


def test_what_cannot_be_verified_is_refused(pruned: Path, tiny_models: TinyModels, tmp_path: Path):
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    for path, code in ((text, "export-unknown"), (tmp_path / "nothing", "export-missing")):
        with refused(code, kind=EvaluationError) as unread:
            form_of(path)
        assert str(path) in unread.value.problem
    with refused("engine-unknown", "engine"):
        verify(pruned, open_model(pruned), "llama.cpp")
    with refused("engine-unable", "engine") as unable:
        verify(pruned, open_model(pruned), "llamacpp")
    assert unable.value.expected == "vllm or transformers"
    with refused("vocabularies-differ", kind=EvaluationError):
        verify(pruned, open_model(_with_vocabulary(tiny_models, tmp_path)))
    with refused("tolerance-out-of-range", "tolerance"):
        verify(pruned, open_model(pruned), tolerance=0.0)


def _with_vocabulary(tiny_models: TinyModels, tmp_path: Path) -> Path:
    model = gatenorm.load(tiny_models("llama-gqa"), dtype=torch.float32)
    model.resize_token_embeddings(112)
    model.save_pretrained(tmp_path / "larger")
    return tmp_path / "larger"


def test_every_form_has_an_engine():
    for kind in map(engine_named, engines()):
        for form in kind.reads:
            assert not kind.installed or engine_for(form, kind.name).name == kind.name


def test_half_precision_weights_excuse_nothing_where_the_engine_computes_in_float32(
    tiny_models: TinyModels, tmp_path: Path
):
    model = tiny_models("llama-gqa", dtype="bfloat16")
    pruned = gatenorm.prune(model, tmp_path / "pruned", gatenorm.plan(model, drop=[1])).path
    assert verify(pruned, open_model(pruned), tokens=4).protocol.tolerance == 1e-3


def test_a_reference_that_computes_nan_is_no_reference(pruned: Path, tmp_path: Path):
    damaged = tmp_path / "damaged"
    shutil.copytree(pruned, damaged)
    tensors = load_file(damaged / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, damaged / "model.safetensors", metadata={"format": "pt"})
    with refused("weights-damaged", kind=EvaluationError):
        verify(pruned, open_model(damaged), tokens=4)


def test_the_divergence_of_what_is_told_is_a_lower_bound():
    random = np.random.default_rng(0)
    p, q = (np.log(random.dirichlet(np.ones(50), 20)) for _ in range(2))
    whole = (np.exp(p) * (p - q)).sum(axis=1)
    assert _divergence(p, q, np.ones_like(p, bool)) == pytest.approx(whole)
    told = np.arange(50) < 10
    partly = _divergence(p, np.where(told, q, np.nan), np.broadcast_to(told, p.shape))
    assert (partly >= 0).all()
    assert (partly <= whole + 1e-12).all()


def test_the_mean_divergence_of_equals_is_not_negative_however_they_are_rounded():
    p = np.log(np.random.default_rng(0).dirichlet(np.ones(50), 20))
    none = np.zeros(20, bool)
    for error, mean in ((1e-6, 0.0), (-1e-6, 1e-6)):
        kl = _divergence(p, p + error, np.ones_like(p, bool))
        figures = _figures([_Compared(np.abs(np.full(20, error)), kl, none, none)])
        assert figures["mean_kl"] == pytest.approx(mean, rel=1e-6)
        assert figures["mean_kl"] >= 0


def test_a_layer_too_many_with_a_cache_is_a_fault(pruned: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(TransformersGreedy, "cached_layers", 3)
    assert verify(pruned, open_model(pruned), tokens=4).faults == (
        "the engine keeps a cache for 3 layers, 2 kept their attention",
    )
