"""How closely one model follows another on the same prompts.

For every item: the divergence of the two models' next-token distributions and how often both would choose the same
token, along the reference; how far their greedy continuations of the prompt agree; and, where there are references, the
perplexity of these.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatenorm.evaluation.core.likelihood import greedy
from gatenorm.evaluation.core.runner import check_same_tokenizer
from gatenorm.evaluation.statistics.paired_statistics import mean_with_error, t_quantile
from gatenorm.models.batches import memory_for
from gatenorm.models.forward import not_finite
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records.evidence import Figure, Workload, WorkloadItem, WorkloadProtocol

if TYPE_CHECKING:
    from torch import Tensor

# Positions whose distributions are compared at a time, in float64.
_POSITIONS = 64
_SHOWN = 200


@dataclass(frozen=True)
class Encoded:
    """An item in tokens; without a reference, ``reference`` is empty."""

    line: int
    shown: str
    prompt: tuple[int, ...]
    reference: tuple[int, ...]


def measure_workload(
    model: Model, baseline: Model, items: Sequence[Encoded], new_tokens: int, progress: Progress | None = None
) -> Workload:
    """How closely ``model`` follows ``baseline``, in the mean and item by item, the worst first.

    With ``p`` the baseline's and ``q`` the model's next-token distribution at a position, ``kl`` is the mean over
    positions of ``sum p (log p - log q)`` in nats and ``top1`` the share at which both have the same most likely token.
    Positions are those that predict the reference; of an item without one, those that predict the baseline's own greedy
    continuation. ``kl_stderr`` is its standard error with items weighted by their positions, ``kl_low`` and ``kl_high``
    the 95% interval by Student's t (no less than 0); one item has neither. ``greedy_agreement`` is the mean share of a
    continuation's tokens (at most ``new_tokens``) before the first difference, ``greedy_same`` the share of items
    without a difference. ``perplexity`` and ``baseline_perplexity`` are ``exp`` of the mean loss over all reference
    tokens, where there are any.

    Raises:
        EvaluationError: different vocabularies, or logits that are not finite.
    """
    began = time.perf_counter()
    check_same_tokenizer(model, baseline)
    prompts = [item.prompt for item in items]
    limits = [new_tokens if s.context is None else s.context - max(map(len, prompts)) for s in (model, baseline)]
    count = max(1, min(new_tokens, *limits))
    steps = 3 * len(items)

    def stage(number: int) -> Progress:
        return lambda done, _: progress(number * len(items) + done, steps) if progress else None

    expected_ids = greedy(baseline, prompts, count, stage(0))
    written_ids = greedy(model, prompts, count, stage(1))
    records = []
    for number, (item, expected, written) in enumerate(zip(items, expected_ids, written_ids, strict=True)):
        along = item.reference or tuple(expected)
        records.append(_record(model, baseline, item, along, expected, written))
        stage(2)(number + 1, steps)
    positions = sum(r.positions for r in records)
    given = [r for r in records if r.nll is not None]
    perplexities = [_perplexity(given, name) if given else None for name in ("nll", "baseline_nll")]
    return Workload(
        count=len(records),
        positions=positions,
        kl=_divergence(records),
        top1=_weighted(records, "top1", positions),
        greedy_agreement=math.fsum(r.greedy_agreement for r in records) / len(records),
        greedy_same=sum(r.greedy_agreement == 1 for r in records) / len(records),
        references=len(given),
        perplexity=perplexities[0],
        baseline_perplexity=perplexities[1],
        protocol=WorkloadProtocol(
            new_tokens=count,
            decoding="greedy",
            chat_template=False,
            distributions="along the references, or the baseline's own continuation where there is none",
            order="largest divergence first",
            **model.hardware(),
        ),
        seconds=time.perf_counter() - began,
        items=tuple(sorted(records, key=lambda r: -r.kl)),
    )


def _perplexity(records: Sequence[WorkloadItem], loss: str) -> float:
    """``exp`` of the mean loss over all reference tokens."""
    return math.exp(min(_weighted(records, loss, sum(r.positions for r in records)), 700))


def _record(
    model: Model,
    baseline: Model,
    item: Encoded,
    along: tuple[int, ...],
    expected: list[int],
    written: list[int],
) -> WorkloadItem:
    same = next((n for n, (a, b) in enumerate(zip(expected, written, strict=False)) if a != b), None)
    length = max(len(expected), len(written))
    agreed = min(len(expected), len(written)) if same is None else same
    decode = baseline.tokenizer.decode
    kl, top1, losses = 0.0, 1.0, {}
    if along:
        before, after = (_logits(s, (*item.prompt, *along), len(along)) for s in (baseline, model))
        kl, top1 = divergence(before, after)
        if item.reference:
            losses = {"nll": _loss(after, along), "baseline_nll": _loss(before, along)}
    return WorkloadItem(
        id=item.line,
        prompt=item.shown[-_SHOWN:],
        greedy_agreement=agreed / length if length else 1.0,
        baseline_wrote=decode(expected)[:_SHOWN],
        model_wrote=decode(written)[:_SHOWN],
        positions=len(along),
        kl=kl,
        top1=top1,
        **losses,
    )


def _divergence(records: Sequence[WorkloadItem]) -> Figure:
    """The mean over positions, with what its error is among items like these."""
    counted = [r for r in records if r.positions]
    if not counted:  # both models end at once, everywhere
        return Figure(value=0.0)
    mean, error = mean_with_error([r.kl for r in counted], [r.positions for r in counted])
    if len(counted) < 2:
        return Figure(value=mean)
    half = t_quantile(len(counted) - 1) * error
    return Figure(value=mean, stderr=error, low=max(0.0, mean - half), high=mean + half)


def divergence(first: Tensor, second: Tensor) -> tuple[float, float]:
    """``KL(p || q)`` in nats and the share of equal top choices, means over positions.

    Args:
        first, second: logits of the reference ``p`` and of ``q``, ``[positions, vocabulary]``; taken to float64.
    """
    total, same = 0.0, 0
    for start in range(0, len(first), _POSITIONS):
        p = first[start : start + _POSITIONS].double().log_softmax(-1)
        q = second[start : start + _POSITIONS].double().to(p.device).log_softmax(-1)
        total += float((p.exp() * (p - q)).sum())
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
    return max(total, 0.0) / len(first), same / len(first)


def _logits(model: Model, sequence: tuple[int, ...], count: int) -> Tensor:
    """The logits that predict the last ``count`` tokens: ``[count, vocabulary]``."""
    import torch

    ids = torch.tensor([sequence[:-1]], device=model.module.device)
    with torch.inference_mode(), memory_for(model.device, 1, len(sequence)):
        logits = model.module(input_ids=ids, use_cache=False).logits[0, -count:].float()
    if not bool(torch.isfinite(logits).all()):
        raise not_finite(model.module)
    return logits


def _loss(logits: Tensor, tokens: tuple[int, ...]) -> float:
    import torch

    target = torch.tensor(tokens, device=logits.device)
    return float(torch.nn.functional.cross_entropy(logits, target, reduction="none").double().mean())


def _weighted(records: Sequence[WorkloadItem], name: str, total: int) -> float:
    return math.fsum(getattr(r, name) * r.positions for r in records) / total if total else 0.0
