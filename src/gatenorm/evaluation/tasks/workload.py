"""Your own workload: how closely a pruned model follows the unpruned one on it.

The unpruned model is the reference, so no labels are needed. For every item: the divergence of the two models'
next-token distributions and how often both would choose the same token, along the reference; how far their greedy
continuations of the prompt agree; and, where the file has references, the perplexity of these.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.job import Job, Progress, Request
from gatenorm.evaluation.core.likelihood import greedy
from gatenorm.evaluation.core.text import LINES, Text, read_bytes, read_rows, read_text
from gatenorm.evaluation.statistics.paired_statistics import mean_with_error, t_quantile
from gatenorm.models.batches import memory_for
from gatenorm.models.forward import not_finite
from gatenorm.models.model import Model
from gatenorm.records.evidence import Data, Figure, Workload, WorkloadItem, WorkloadProtocol

if TYPE_CHECKING:
    from torch import Tensor

# Tokens of a piece of plain text, where the model takes as many.
_PIECE = 256
# Positions whose distributions are compared at a time, in float64.
_POSITIONS = 64
_SHOWN = 200
_NEEDS = "each line is a JSON object with a 'prompt', or with a 'prompt' and a 'reference'"


@dataclass(frozen=True)
class Item:
    """One prompt of the workload; ``line`` is its place in the file, ``reference`` the wanted answer, if any."""

    line: int
    prompt: str
    reference: str | None = None


def prepare(request: Request) -> list[Job]:
    """The workload that ``--data`` names, as a job that needs the baseline beside the model.

    Raises:
        EvaluationError: no file is given, or it cannot be read.
    """
    if request.data is None:
        raise EvaluationError(
            "data-missing", "is missing", field="data", expected=f"your own prompts (.jsonl: {_NEEDS}) or a plain text"
        )
    path = Path(request.data).expanduser()
    raw = read_bytes(request.data, path)
    digest = hashlib.sha256(raw).hexdigest()
    if path.suffix.lower() in LINES:
        source: list[Item] | Text = read_items(request.data, path, raw)
    else:
        source = read_text(request.data, request.text_field)
    # The same bytes are other items as lines with prompts, as text, or in another field.
    form = source.protocol if isinstance(source, Text) else "prompts"
    length = min(request.window or _PIECE, request.context or _PIECE)

    def compare(model: Model, baseline: Model, progress: Progress | None) -> Workload:
        items = encoded(baseline, source, length, request.limit)
        found = followed(model, baseline, items, request.new_tokens, progress)
        how = (
            "lines with prompts"
            if isinstance(source, list)
            else f"pieces of {length} tokens, the first half the prompt"
        )
        data = Data(name=path.name, sha256=digest, items=len(items))
        stated = msgspec.structs.replace(found.protocol, text=how)
        return msgspec.structs.replace(found, protocol=stated, data=data)

    key = {"data": digest, "form": form, "length": length, "limit": request.limit, "new_tokens": request.new_tokens}
    return [Job("domain", "your workload", "items", key, compare=compare)]


def read_items(source: str, path: Path, raw: bytes) -> list[Item]:
    """The prompts, and the references where there are any, of a JSON-lines file.

    Raises:
        EvaluationError: a line without a prompt, with an empty one, or with something else than text in either.
    """
    found = []
    for line, row in read_rows(source, path, raw):
        prompt, reference = row.get("prompt"), row.get("reference")
        if not isinstance(prompt, str) or not prompt.strip():
            raise EvaluationError(
                "data-wrong", f"has no 'prompt' in line {line}", field="data", given=source, expected=_NEEDS
            )
        if reference is not None and (not isinstance(reference, str) or not reference):
            raise EvaluationError(
                "data-wrong",
                f"has an empty 'reference' in line {line}",
                field="data",
                given=source,
                hint="give a text, or leave it out",
            )
        found.append(Item(line, prompt, reference))
    return found


@dataclass(frozen=True)
class Encoded:
    """An item in tokens; without a reference, ``reference`` is empty."""

    line: int
    shown: str
    prompt: tuple[int, ...]
    reference: tuple[int, ...]


def encoded(subject: Model, source: list[Item] | Text, length: int, limit: int | None) -> list[Encoded]:
    """Items in tokens: a prompt with the tokenizer's special tokens, and what the reference adds to it.

    Raises:
        EvaluationError: an item longer than the model's input, or a text too short to be cut.
    """
    if isinstance(source, Text):
        (ids,) = subject.encode([source.content])
        pieces = [tuple(ids[n : n + length]) for n in range(0, len(ids), length)]
        whole = [piece for piece in pieces if len(piece) == length] or pieces[:1]
        if len(whole[0]) < 4:
            raise EvaluationError(
                "text-too-short", f"{source.name} has {len(whole[0])} tokens: too few to continue", field="data"
            )
        half = len(whole[0]) // 2
        texts = [subject.tokenizer.decode(piece[:half]) for piece in whole[:limit]]
        cut = zip(whole[:limit], texts, strict=True)
        return [Encoded(n, shown, piece[:half], piece[half:]) for n, (piece, shown) in enumerate(cut, 1)]
    found = []
    for item in source[:limit]:
        (prompt,) = subject.encode([item.prompt])
        reference: list[int] = []
        if item.reference is not None:
            # Encoded together, since a tokenizer may join what meets at the border; cut where the prompt's tokens end.
            joint = item.prompt + ("" if item.prompt[-1].isspace() or item.reference[0].isspace() else " ")
            (both,) = subject.encode([joint + item.reference])
            reference = both[len(prompt) :]
        total = len(prompt) + len(reference)
        if subject.context and total > subject.context:
            raise EvaluationError(
                "prompt-too-long",
                f"line {item.line} has {total} tokens with its reference; the model takes {subject.context}",
                hint="shorten it",
            )
        if not prompt:
            raise EvaluationError(
                "prompt-without-tokens", f"the tokenizer makes no token of the prompt in line {item.line}"
            )
        found.append(Encoded(item.line, item.prompt, tuple(prompt), tuple(reference)))
    return found


def followed(
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
    if model.vocabulary != baseline.vocabulary or model.tokenizer.get_vocab() != baseline.tokenizer.get_vocab():
        raise EvaluationError(
            "tokenizers-differ",
            f"{model.name} and {baseline.name} have different tokenizers: their distributions cannot be compared",
        )
    prompts = [item.prompt for item in items]
    rooms = [new_tokens if s.context is None else s.context - max(map(len, prompts)) for s in (model, baseline)]
    count = max(1, min(new_tokens, *rooms))
    steps = 3 * len(items)

    def stage(number: int) -> Progress:
        return lambda done, _: progress(number * len(items) + done, steps) if progress else None

    theirs = greedy(baseline, prompts, count, stage(0))
    ours = greedy(model, prompts, count, stage(1))
    records = []
    for number, (item, expected, written) in enumerate(zip(items, theirs, ours, strict=True)):
        along = item.reference or tuple(expected)
        records.append(_record(model, baseline, item, along, expected, written))
        stage(2)(number + 1, steps)
    positions = sum(r.positions for r in records)
    given = [r for r in records if r.nll is not None]
    perplexities = [_perplexity(given, name) if given else None for name in ("nll", "baseline_nll")]
    return Workload(
        baseline=baseline.identity,
        baseline_edits=baseline.edits,
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


def _logits(subject: Model, sequence: tuple[int, ...], count: int) -> Tensor:
    """The logits that predict the last ``count`` tokens: ``[count, vocabulary]``."""
    import torch

    ids = torch.tensor([sequence[:-1]], device=subject.module.device)
    with torch.inference_mode(), memory_for(subject.device, 1, len(sequence)):
        logits = subject.module(input_ids=ids, use_cache=False).logits[0, -count:].float()
    if not bool(torch.isfinite(logits).all()):
        raise not_finite(subject.module)
    return logits


def _loss(logits: Tensor, tokens: tuple[int, ...]) -> float:
    import torch

    target = torch.tensor(tokens, device=logits.device)
    return float(torch.nn.functional.cross_entropy(logits, target, reduction="none").double().mean())


def _weighted(records: Sequence[WorkloadItem], name: str, total: int) -> float:
    return math.fsum(getattr(r, name) * r.positions for r in records) / total if total else 0.0
