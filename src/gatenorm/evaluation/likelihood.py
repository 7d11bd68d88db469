"""What a model gives to tokens: losses along sequences, log-likelihoods of continuations, greedy continuations.

Sequences of unequal length are padded on the right, where causal attention does not see it. Logits become float32
log-probabilities; sums are float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from gatenorm.errors import EvaluationError
from gatenorm.evaluation.job import Progress
from gatenorm.evaluation.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")


@dataclass(frozen=True)
class Continuation:
    """The log-likelihood of a continuation in nats, and whether greedy decoding would have given exactly it."""

    loglikelihood: float
    greedy: bool


def token_losses(model: Any, batch: Sequence[Sequence[int]]) -> list[Tensor]:
    """The negative log-likelihood of every token but the first of each sequence, in nats: float64 ``[tokens - 1]``.

    Raises:
        EvaluationError: logits that are not finite.
    """
    import torch

    ids, counts = padded(batch, model.device)
    # Without padding no mask is given: attention kernels are faster that way.
    mask = None if bool(counts.all()) else counts.long()
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        # [batch, length - 1, vocabulary] -> one number a predicted token
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        ).view(len(batch), ids.shape[1] - 1)
    found = losses.double().cpu()
    rows = [found[row, : len(sequence) - 1] for row, sequence in enumerate(batch)]
    if not all(bool(torch.isfinite(row).all()) for row in rows):
        raise not_finite()
    return rows


def continuations(
    subject: Subject, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], progress: Progress | None = None
) -> list[Continuation]:
    """The log-likelihood of each continuation after its prompt, both as token ids.

    ``log p(continuation | prompt) = sum_i log p(token_i | prompt, tokens before i)``. Pairs that share all but the last
    token share a forward pass.

    Args:
        progress: called with (forward passes done, in all), a pass being one sequence.

    Raises:
        EvaluationError: an empty prompt or continuation, or logits that are not finite.
    """
    import torch

    wanted: dict[tuple[int, ...], list[int]] = {}
    for number, (prompt, continuation) in enumerate(pairs):
        if not prompt or not continuation:
            raise EvaluationError(f"pair {number}: neither a prompt nor a continuation may be empty")
        wanted.setdefault((*prompt, *continuation[:-1]), []).append(number)
    found: list[Continuation | None] = [None] * len(pairs)
    model = subject.model

    def compute(batch: list[tuple[int, ...]]) -> None:
        ids, _ = padded(batch, model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits
            for row, sequence in enumerate(batch):
                for number in wanted[sequence]:
                    prompt, continuation = pairs[number]
                    # What stands at the prompt's last place predicts the continuation's first token.
                    ends = logits[row, len(prompt) - 1 : len(sequence)].float()
                    target = torch.tensor(list(continuation), device=ends.device)
                    logs = ends.log_softmax(-1).gather(-1, target[:, None])[:, 0].double()
                    if not bool(torch.isfinite(logs).all()):
                        raise not_finite()
                    greedy = bool((ends.argmax(-1) == target).all())
                    found[number] = Continuation(float(logs.sum()), greedy)

    done = 0
    for batch, _ in in_batches(subject, list(wanted), compute):
        done += len(batch)
        if progress:
            progress(done, len(wanted))
    return [f for f in found if f is not None]


def greedy(
    subject: Subject, prompts: Sequence[Sequence[int]], new_tokens: int, progress: Progress | None = None
) -> list[list[int]]:
    """What greedy decoding writes after each prompt: at most ``new_tokens`` ids, fewer where it ends by itself.

    Prompts of one length go together and none is padded, so nothing depends on what else is asked.

    Args:
        progress: called with (prompts done, in all).

    Raises:
        EvaluationError: logits that are not finite.
    """
    import torch
    from transformers import LogitsProcessorList

    model = subject.model
    ends = _ends(subject)
    found: dict[int, list[int]] = {}
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
    while order:
        length = len(prompts[order[0]])
        size = subject.rows(length + new_tokens)
        batch = [n for n in order if len(prompts[n]) == length][:size]
        order = order[len(batch) :]
        ids = torch.tensor([list(prompts[n]) for n in batch], device=model.device)
        with torch.inference_mode():
            written = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new_tokens,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=min(ends) if ends else 0,
                eos_token_id=sorted(ends) or None,
                logits_processor=LogitsProcessorList([_Finite()]),
            )
        for n, row in zip(batch, written[:, length:].tolist(), strict=True):
            stop = next((place for place, token in enumerate(row) if token in ends), len(row))
            found[n] = row[:stop]
        if progress:
            progress(len(found), len(prompts))
    return [found[n] for n in range(len(prompts))]


def padded(batch: Sequence[Sequence[int]], device: Any) -> tuple[Tensor, Tensor]:
    """Token ids ``[batch, length]``, and which of them are real."""
    import torch

    length = max(len(s) for s in batch)
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    counts = torch.zeros(len(batch), length, dtype=torch.bool)
    for row, sequence in enumerate(batch):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        counts[row, : len(sequence)] = True
    return ids.to(device), counts.to(device)


def in_batches(
    subject: Subject, sequences: Sequence[tuple[int, ...]], compute: Callable[[list[tuple[int, ...]]], Result]
) -> Iterator[tuple[list[tuple[int, ...]], Result]]:
    """Runs ``compute`` on batches of sequences of like length, the longest first; half of one where memory runs out.

    Yields each batch with its result.
    """
    import torch

    ordered = sorted(sequences, key=len, reverse=True)
    most: int | None = None
    while ordered:
        count = min(subject.rows(len(ordered[0])), most or len(ordered), len(ordered))
        try:
            result = compute(ordered[:count])
        except torch.OutOfMemoryError:
            if count == 1 or subject.batch_size:
                raise EvaluationError(
                    f"not enough memory on {subject.device} for {count} sequences of {len(ordered[0])} tokens: "
                    "give a smaller --batch-size or --window"
                ) from None
            torch.cuda.empty_cache()
            most = count // 2
            continue
        yield ordered[:count], result
        ordered = ordered[count:]


def not_finite() -> EvaluationError:
    """What every task says of logits that hold NaN or infinity: no figure is made of them."""
    return EvaluationError("the model's logits are not finite (NaN or infinity): try --dtype float32")


class _Finite:
    """Stops a generation at logits of which no token can be chosen: the largest of NaNs is the first one."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if bool(scores.isnan().any()) or bool(scores.isposinf().any()):
            raise not_finite()
        return scores


def _ends(subject: Subject) -> set[int]:
    """The tokens at which a model stops of its own accord."""
    named = getattr(subject.model.generation_config, "eos_token_id", None)
    ends = set(named if isinstance(named, list) else [named])
    ends.add(subject.tokenizer.eos_token_id)
    return {int(token) for token in ends if token is not None and int(token) < subject.vocabulary}
