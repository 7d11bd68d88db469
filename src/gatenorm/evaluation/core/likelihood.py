"""What a model makes of token sequences: log-likelihoods of continuations, and greedy continuations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.job import Progress
from gatenorm.models.batches import in_batches
from gatenorm.models.forward import not_finite, padded
from gatenorm.models.model import Model

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Continuation:
    """The log-likelihood of a continuation in nats, and whether greedy decoding would have given exactly it."""

    loglikelihood: float
    greedy: bool


def continuations(
    subject: Model, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], progress: Progress | None = None
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
            raise EvaluationError("pair-empty", f"pair {number}: neither a prompt nor a continuation may be empty")
        wanted.setdefault((*prompt, *continuation[:-1]), []).append(number)
    found: list[Continuation | None] = [None] * len(pairs)
    model = subject.module

    def compute(batch: list[tuple[int, ...]]) -> None:
        ids, _ = padded(batch)
        with torch.inference_mode():
            logits = model(input_ids=ids.to(model.device), use_cache=False).logits
            for row, sequence in enumerate(batch):
                for number in wanted[sequence]:
                    prompt, continuation = pairs[number]
                    # What stands at the prompt's last place predicts the continuation's first token.
                    ends = logits[row, len(prompt) - 1 : len(sequence)].float()
                    target = torch.tensor(list(continuation), device=ends.device)
                    logs = ends.log_softmax(-1).gather(-1, target[:, None])[:, 0].double()
                    if not bool(torch.isfinite(logs).all()):
                        raise not_finite(model)
                    greedy = bool((ends.argmax(-1) == target).all())
                    found[number] = Continuation(float(logs.sum()), greedy)

    done = 0
    for batch, _ in in_batches(subject, list(wanted), compute, len):
        done += len(batch)
        if progress:
            progress(done, len(wanted))
    return [f for f in found if f is not None]


def greedy(
    subject: Model, prompts: Sequence[Sequence[int]], new_tokens: int, progress: Progress | None = None
) -> list[list[int]]:
    """What greedy decoding writes after each prompt: at most ``new_tokens`` ids, fewer where it ends by itself.

    At each step the most likely token, whatever the checkpoint's ``generation_config.json`` says of penalties or of
    tokens to suppress or to force; of that file only the tokens at which the model stops count. Prompts of one length
    go together and none is padded, so nothing depends on what else is asked.

    Args:
        progress: called with (prompts done, in all).

    Raises:
        EvaluationError: logits that are not finite, or a generation configuration that names no tokens to stop at.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    model = subject.module
    ends = _ends(subject)
    plain = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=new_tokens,
        eos_token_id=sorted(ends) or None,
        pad_token_id=min(ends) if ends else 0,
    )
    found: dict[int, list[int]] = {}

    def write(batch: list[int]) -> list[list[int]]:
        ids = torch.tensor([list(prompts[n]) for n in batch], device=model.device)
        with torch.inference_mode(), _generating_by(model, plain):
            written = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=plain,
                logits_processor=LogitsProcessorList([_Finite(model)]),
            )
        rows: list[list[int]] = written[:, ids.shape[1] :].tolist()
        return rows

    def tokens(number: int) -> int:
        return len(prompts[number]) + new_tokens

    for _, alike in groupby(sorted(range(len(prompts)), key=tokens), tokens):
        for batch, rows in in_batches(subject, list(alike), write, tokens):
            for n, row in zip(batch, rows, strict=True):
                stop = next((place for place, token in enumerate(row) if token in ends), len(row))
                found[n] = row[:stop]
            if progress:
                progress(len(found), len(prompts))
    return [found[n] for n in range(len(prompts))]


class _Finite:
    """Stops a generation at logits of which no token can be chosen: the largest of NaNs is the first one."""

    def __init__(self, model: Any):
        self._model = model

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if bool(scores.isnan().any()) or bool(scores.isposinf().any()):
            raise not_finite(self._model)
        return scores


@contextmanager
def _generating_by(model: Any, configuration: Any) -> Iterator[None]:
    """What a configuration leaves open, transformers takes from the model's own: for a while that is this one."""
    own = model.generation_config
    model.generation_config = configuration
    try:
        yield
    finally:
        model.generation_config = own


def _ends(subject: Model) -> set[int]:
    """The tokens at which a model stops of its own accord.

    Raises:
        EvaluationError: its configuration names something else than tokens.
    """
    named = getattr(getattr(subject.module, "generation_config", None), "eos_token_id", None)
    if named is None:
        named = getattr(subject.module.config, "eos_token_id", None)
    ends = named if isinstance(named, list) else [] if named is None else [named]
    if not all(type(token) is int for token in ends):
        raise EvaluationError(
            "eos-wrong",
            f"{subject.name}: eos_token_id is {named!r:.60} in its generation_config.json or config.json",
            expected="a token's number, or a list of them",
            hint="mend or remove it there",
        )
    # Numbers beyond the vocabulary are never written; some configurations say -1 for none.
    return {token for token in (*ends, subject.tokenizer.eos_token_id) if token in range(subject.vocabulary)}
