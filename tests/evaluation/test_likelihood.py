"""Likelihoods and greedy continuations against one sequence at a time, on every block shape."""

from __future__ import annotations

import copy

import pytest
import torch

from gatenorm import prune_module
from gatenorm.errors import EvaluationError
from gatenorm.evaluation.likelihood import continuations, greedy, token_losses
from tests.evaluation.subjects import log_probabilities, tiny
from tests.tiny_models import build

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
        logs = log_probabilities(subject.model, [*prompt, *tail])[len(prompt) - 1 : -1]
        expected = sum(float(row[token]) for row, token in zip(logs, tail, strict=True))
        assert found.loglikelihood == pytest.approx(expected, rel=1e-5)
        assert found.greedy == (logs.argmax(-1).tolist() == tail)


@pytest.mark.parametrize("drop", [(), (0, 2)])
@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_continuations_are_the_most_likely_tokens_one_by_one(name: str, drop: tuple[int, ...]):
    subject = tiny(name, prune_module(copy.deepcopy(build(name)), drop) if drop else None)
    assert subject.removed == drop
    prompts = draw(8, 5, 8)
    for prompt, written in zip(prompts, greedy(subject, prompts, 6), strict=True):
        sequence = list(prompt)
        for token in written:
            assert token == int(log_probabilities(subject.model, sequence)[-1].argmax())
            sequence.append(token)
        assert len(written) == 6 or int(log_probabilities(subject.model, sequence)[-1].argmax()) in {
            subject.model.generation_config.eos_token_id
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
    with pytest.raises(EvaluationError, match="not finite"):
        continuations(tiny("broken", model), [([5, 6], [7])])
    with pytest.raises(EvaluationError, match="not finite"):
        greedy(tiny("broken", model), [[5, 6]], 2)
    with pytest.raises(EvaluationError, match="not finite"):
        token_losses(model, [[5, 6, 7]])


def test_empty_prompts_are_refused():
    with pytest.raises(EvaluationError, match="may be empty"):
        continuations(tiny("gpt2"), [([], [3])])


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch):
    subject = tiny("gpt2")
    sizes: list[int] = []
    real = subject.model.forward

    def forward(input_ids: torch.Tensor, **options: object) -> object:
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("too much")
        return real(input_ids=input_ids, **options)

    monkeypatch.setattr(subject.model, "forward", forward)
    found = continuations(subject, [(p, [3]) for p in draw(*[6] * 5)])
    assert len(found) == 5
    assert sizes == [5, 2, 2, 1]
    subject.batch_size = 5
    with pytest.raises(EvaluationError, match="smaller --batch-size"):
        continuations(subject, [(p, [3]) for p in draw(*[6] * 5)])
