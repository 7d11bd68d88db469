"""Likelihoods and greedy continuations against one sequence at a time, on every block shape."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

import gatenorm
from gatenorm import prune_module
from gatenorm.engines import LikelyContinuation
from gatenorm.engines.transformers import Transformers
from gatenorm.errors import EvaluationError, named
from gatenorm.evaluation.core.likelihood import continuations, greedy
from gatenorm.models.forward import not_finite, token_losses
from gatenorm.models.model import Model
from tests.errors import refused
from tests.evaluation.subjects import log_probabilities, tiny
from tests.tiny_models import CASES, build, save

FAMILIES = ["llama-gqa", "gpt2", "gpt_neo", "gemma2", "falcon-alibi", "opt", "olmo2"]


def draw(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randint(4, 90, (n,), generator=generator).tolist() for n in lengths]


@pytest.mark.parametrize("name", FAMILIES)
def test_continuations_are_scored_as_alone(name: str):
    subject = tiny(name)
    prompts, tails = draw(9, 4, 9, 1), draw(3, 1, 5, 2)
    # The first prompt once more with another last token: these two share a forward pass.
    pairs = [*zip(prompts, tails, strict=True), (prompts[0], [*tails[0][:-1], 7])]
    for (prompt, tail), found in zip(pairs, continuations(subject, pairs), strict=True):
        logs = log_probabilities(subject.module, [*prompt, *tail])[len(prompt) - 1 : -1]
        expected = sum(float(row[token]) for row, token in zip(logs, tail, strict=True))
        assert found.loglikelihood == pytest.approx(expected, rel=1e-5)
        assert found.greedy == (logs.argmax(-1).tolist() == tail)


@pytest.mark.parametrize("name", CASES)
def test_choices_of_one_prompt_are_scored_as_alone(name: str):
    # Longer than the windows of those that have one, and without the layer whose cache most models count by.
    subject = tiny(name, prune_module(copy.deepcopy(build(name)), [0]))
    pairs = [(prompt, tail) for prompt in draw(23, 23, 7) for tail in draw(3, 1, 6)]
    for (prompt, tail), found in zip(pairs, continuations(subject, pairs), strict=True):
        logs = log_probabilities(subject.module, [*prompt, *tail])[len(prompt) - 1 : -1]
        expected = sum(float(row[token]) for row, token in zip(logs, tail, strict=True))
        assert found.loglikelihood == pytest.approx(expected, rel=1e-5)
        assert found.greedy == (logs.argmax(-1).tolist() == tail)


def tokens_read(subject: Model, monkeypatch: pytest.MonkeyPatch) -> int:
    """By three choices of each of two prompts of ten tokens."""
    read = 0
    real = subject.module.forward

    def forward(input_ids: torch.Tensor, logits_to_keep: int = 0, **options: Any) -> Any:
        nonlocal read
        read += input_ids.numel()
        return real(input_ids=input_ids, logits_to_keep=logits_to_keep, **options)

    with monkeypatch.context() as patched:
        patched.setattr(subject.module, "forward", forward)
        continuations(subject, [(prompt, tail) for prompt in draw(10, 10) for tail in draw(4, 4, 4)])
    return read


def test_a_prompt_of_several_choices_is_read_once(monkeypatch: pytest.MonkeyPatch):
    # One token more shows what kind of cache it is.
    assert tokens_read(tiny("llama-gqa"), monkeypatch) == 2 * 10 + 2 * 3 * 3 + 1
    # States of other mixers cannot be handed on: every sequence whole.
    assert tokens_read(tiny("lfm2"), monkeypatch) == 2 * 3 * 13 + 1


def test_a_model_that_is_edited_for_a_while_goes_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Model.of_layout(gatenorm.open_model(save("llama-gqa", tmp_path))).without([0]) as edited:
        assert tokens_read(edited, monkeypatch) == 2 * 3 * 13


@pytest.mark.parametrize("drop", [(), (0, 2)])
@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_continuations_are_the_most_likely_tokens_one_by_one(name: str, drop: tuple[int, ...]):
    subject = tiny(name, prune_module(copy.deepcopy(build(name)), drop) if drop else None)
    assert subject.edits.attention == drop
    prompts = draw(8, 5, 8)
    for prompt, written in zip(prompts, greedy(subject, prompts, 6), strict=True):
        sequence = list(prompt)
        for token in written:
            assert token == int(log_probabilities(subject.module, sequence)[-1].argmax())
            sequence.append(token)
        assert len(written) == 6 or int(log_probabilities(subject.module, sequence)[-1].argmax()) in {
            subject.module.generation_config.eos_token_id
        }


def test_losses_come_token_by_token_in_float64():
    model = build("llama-gqa")
    batch = draw(12, 5)
    for sequence, losses in zip(batch, token_losses(model, batch), strict=True):
        logs = log_probabilities(model, sequence)
        expected = [-float(logs[n, token]) for n, token in enumerate(sequence[1:])]
        assert losses.dtype == torch.float64
        assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_nothing_is_made_of_logits_that_are_not_finite():
    model = copy.deepcopy(build("llama-gqa"))
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with refused("logits-not-finite", kind=EvaluationError):
        continuations(tiny("broken", model), [([5, 6], [7])])
    with refused("logits-not-finite", kind=EvaluationError):
        greedy(tiny("broken", model), [[5, 6]], 2)
    with refused("logits-not-finite", kind=EvaluationError):
        token_losses(model, [[5, 6, 7]])


def test_what_is_said_of_logits_that_are_not_finite_is_what_can_be_done():
    model = copy.deepcopy(build("llama-gqa"))
    assert "though it computes in float32" in str(not_finite(model))
    assert not_finite(None, "bfloat16").hint == f"try {named('dtype')} float32"
    with torch.no_grad():
        model.half().model.layers[1].mlp.up_proj.weight[0, 0] = torch.inf  # a large number may have become that
        assert not_finite(model).hint == f"try {named('dtype')} float32"
        assert "model.layers.1.mlp.up_proj.weight is damaged" in str(not_finite(model.float()))
        model.half().model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    assert "model.layers.1.mlp.up_proj.weight is damaged" in str(not_finite(model))


def test_greedy_is_greedy_whatever_the_checkpoint_says_of_generation():
    plain = tiny("llama-gqa")
    prompts = draw(6, 4)
    expected = greedy(plain, prompts, 8)
    model = copy.deepcopy(build("llama-gqa"))
    said = {
        "repetition_penalty": 9.0,
        "no_repeat_ngram_size": 1,
        "suppress_tokens": sorted({*expected[0], *expected[1]}),
    }
    said |= {"forced_eos_token_id": 7, "min_new_tokens": 3, "do_sample": True, "temperature": 3.0, "num_beams": 3}
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id, **said)
    assert greedy(tiny("llama-gqa", model), prompts, 8) == expected
    assert model.generation_config.repetition_penalty == 9.0


def test_tokens_to_stop_at_come_from_either_configuration():
    free = copy.deepcopy(build("llama-gqa"))
    free.generation_config.eos_token_id = free.config.eos_token_id = None
    ((first, second, *_),) = greedy(tiny("free", free), draw(6), 8)
    assert first != second
    for of_generation, of_model in ((second, None), ([second], None), (None, second), ([second, -1, 10**9], first)):
        free.generation_config.eos_token_id, free.config.eos_token_id = of_generation, of_model
        assert greedy(tiny("free", free), draw(6), 8) == [[first]]


@pytest.mark.parametrize("damaged", ["x", [[1]], True, 1.5, {"a": 1}])
def test_damaged_tokens_to_stop_at_get_one_line(damaged: object):
    model = copy.deepcopy(build("llama-gqa"))
    model.generation_config.eos_token_id = damaged
    with refused("eos-wrong", kind=EvaluationError):
        greedy(tiny("damaged", model), draw(4), 2)


def test_empty_prompts_are_refused():
    with refused("pair-empty", kind=EvaluationError):
        continuations(tiny("gpt2"), [([], [3])])


@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError("too much"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved(problem: Exception, monkeypatch: pytest.MonkeyPatch):
    subject = tiny("gpt2")
    sizes: list[int] = []
    real = subject.module.forward

    def forward(input_ids: torch.Tensor, **options: object) -> object:
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise problem
        return real(input_ids=input_ids, **options)

    monkeypatch.setattr(subject.module, "forward", forward)
    found = continuations(subject, [(p, [3]) for p in draw(*[6] * 5)])
    assert len(found) == 5
    assert sizes == [5, 2, 2, 1]
    sizes.clear()
    assert len(greedy(subject, draw(*[6] * 5), 1)) == 5
    assert sizes == [5, 2, 2, 1]
    subject.batch_size = 5
    with refused("out-of-memory"):
        continuations(subject, [(p, [3]) for p in draw(*[6] * 5)])


def test_other_failures_are_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch):
    def forward(**_: object) -> object:
        raise RuntimeError("shapes cannot be multiplied")

    subject = tiny("gpt2")
    monkeypatch.setattr(subject.module, "forward", forward)
    with pytest.raises(RuntimeError, match="shapes"):
        continuations(subject, [([5], [3])])


def test_the_engine_that_a_model_is_open_in_is_asked(monkeypatch: pytest.MonkeyPatch):
    model = tiny("gpt2")
    monkeypatch.setattr(Transformers, "generate", lambda _, model, prompts, new_tokens, progress: [[new_tokens]])
    monkeypatch.setattr(Transformers, "likelihoods", lambda _, model, pairs, progress: [LikelyContinuation(-1.0, True)])
    assert greedy(model, [[5]], 3) == [[3]]
    assert continuations(model, [([5], [6])])[0].loglikelihood == -1.0
    monkeypatch.setattr(model, "engine", "vllm")
    with refused("engine-unable", "engine"):
        greedy(model, [[5]], 3)
