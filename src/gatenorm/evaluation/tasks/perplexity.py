"""Perplexity: ``exp`` of the mean negative log-likelihood over all predicted tokens.

The protocol is part of the figure. Either the whole text is tokenised once and cut into windows that do not overlap (a
last, shorter window is dropped), or every document is taken by itself and cut at the model's longest input. In a window
or document of n tokens, n - 1 are predicted. With a stride shorter than the window, windows overlap and run to the
text's end; in each only the tokens that no earlier window held count, so every token but the text's first is predicted
once, from at least ``window - stride`` tokens before it (fewer at the text's start). Logits become float32
log-probabilities, sums are float64.

Word perplexity and bits per byte rest on the same losses, but count what a tokenizer cannot choose: with ``t`` tokens,
``w`` words (runs between whitespace) and ``b`` UTF-8 bytes in the text, and the mean loss ``nll`` in nats per token,
``word perplexity = exp(nll t / w)`` and ``bits per byte = nll t / (b ln 2)``. The few tokens that no window predicts,
its first ones, are taken to cost the mean. Where a limit leaves out windows, ``t``, ``w`` and ``b`` are those of
what the others hold: the first ones or, spread, as many evenly over a text whose first documents are unlike the rest.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from gatenorm.errors import EvaluationError, named
from gatenorm.evaluation.core.audit_role import AuditRole
from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.evaluation.core.likelihood import continuations
from gatenorm.evaluation.core.task import Metric, Task
from gatenorm.evaluation.core.text import Text, about_tokens, chosen, data_error, documents, per_token, read_text
from gatenorm.models.architecture import Work
from gatenorm.models.batches import BatchBudget, check_vocabulary, in_batches
from gatenorm.models.forward import token_losses
from gatenorm.models.model import TRANSFORMERS, Model
from gatenorm.progress import Progress
from gatenorm.records.evidence import Item, Perplexity, TextProtocol

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_WINDOW = 2048


@dataclass(frozen=True)
class Protocol:
    """How a text becomes token sequences.

    ``window`` is the longest input (``None``: the model's maximum, at most 2,048); ``separator`` cuts documents, of
    which the first ``limit`` count; without it, ``limit`` counts windows. With ``spread`` they lie all over the text.
    ``stride`` is by how many tokens a window begins after the one before (``None``: by all of them, so that none
    overlap).
    """

    window: int | None = None
    separator: str | None = None
    limit: int | None = None
    batch_size: int | None = None
    stride: int | None = None
    spread: bool = False


def perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: Text,
    protocol: Protocol,
    progress: Progress | None = None,
) -> Perplexity:
    """Measure a model's perplexity on a text.

    Args:
        progress: called with (tokens predicted, tokens to predict in all).

    Raises:
        EvaluationError: text shorter than one window, tokens outside the model's vocabulary, or logits that are not
            finite.
    """
    config, device = model.config.get_text_config(), model.device.type

    def sums_of(sequences: Sequence[Sequence[int]], known: Sequence[int]) -> list[float]:
        sums, counted = [0.0] * len(sequences), [len(s) - 1 - k for s, k in zip(sequences, known, strict=True)]
        done = 0

        def losses_of(batch: list[int]) -> list[Tensor]:
            return token_losses(model, [sequences[n] for n in batch])

        budget = BatchBudget(device, int(config.vocab_size), protocol.batch_size)
        for batch, batch_losses in in_batches(budget, range(len(sequences)), losses_of, lambda n: len(sequences[n])):
            for n, losses in zip(batch, batch_losses, strict=True):
                sums[n] = float(losses[known[n] :].sum())
                done += counted[n]
            if progress:
                progress(done, sum(counted))
        return sums

    computed = {"dtype": str(model.dtype).removeprefix("torch."), "device": device}
    return _measured(sums_of, tokenizer, text, protocol, config, computed)


def _in_engine(model: Model, text: Text, protocol: Protocol, progress: Progress | None) -> Perplexity:
    """As :func:`perplexity`, of a model that another engine than transformers runs."""

    def sums_of(sequences: Sequence[Sequence[int]], known: Sequence[int]) -> list[float]:
        pairs = [(s[: k + 1], s[k + 1 :]) for s, k in zip(sequences, known, strict=True)]
        return [-found.loglikelihood for found in continuations(model, pairs, progress)]

    computed = {"dtype": model.computes_in, "device": model.device, "engine": model.engine}
    return _measured(sums_of, model.tokenizer, text, protocol, model.config, computed)


def _measured(
    sums_of: Callable[[Sequence[Sequence[int]], Sequence[int]], list[float]],
    tokenizer: Any,
    text: Text,
    protocol: Protocol,
    config: Any,
    computed: Mapping[str, str],
) -> Perplexity:
    """The record, with ``sums_of`` giving the losses of sequences, summed over the tokens from ``known + 1`` on."""
    started = time.perf_counter()
    sequences, described = encode(tokenizer, text, protocol, config)
    # What a window shares with the one before it has been predicted there.
    shared = (described.window or 0) - (described.stride or 0)
    known = [max(shared - 1, 0) if protocol.stride and n else 0 for n in range(len(sequences))]
    counted = [len(s) - 1 - seen for s, seen in zip(sequences, known, strict=True)]
    total, sums = sum(counted), sums_of(sequences, known)
    mean = math.fsum(sums) / total
    pieces, separator = [text.content], protocol.separator
    if separator is not None:
        pieces = documents(text, separator, protocol.limit, protocol.spread)
    words, size_in_bytes = per_token(tokenizer, pieces, described)
    losses = enumerate(zip(counted, sums, strict=True))
    return Perplexity(
        perplexity=exp(mean),
        nll=mean,
        tokens=total,
        word_perplexity=finite(exp(mean / words) if words else math.inf),
        bits_per_byte=finite(mean / size_in_bytes / math.log(2)),
        seconds=time.perf_counter() - started,
        protocol=msgspec.structs.replace(described, **computed),
        data=msgspec.structs.replace(text.identity(), tokens_sha256=digest(sequences)),
        items=tuple(Item(id=n, metrics={"nll": nll / tokens}, weight=tokens) for n, (tokens, nll) in losses),
    )


def finite(value: float) -> float | None:
    """The number, or none where it is infinite or not known."""
    return value if math.isfinite(value) else None


def digest(sequences: Sequence[Sequence[int]]) -> str:
    """The hash of token sequences: figures by token compare only where it is the same."""
    sha = hashlib.sha256()
    for sequence in sequences:
        sha.update((",".join(map(str, sequence)) + "\n").encode())
    return sha.hexdigest()


def prepare(options: TaskOptions) -> list[Job]:
    """The perplexity of the text that ``--data`` names, as a job.

    Raises:
        EvaluationError: no text is given, or it cannot be read.
    """
    if options.data is None:
        raise data_error("data-missing", "is missing", expected="a text, generic, wikitext2, or wikitext2=FILE")
    if options.documents == "":
        raise EvaluationError(
            "documents-empty", "is empty", field="documents", expected="a separator, such as '<|endoftext|>'"
        )
    text = read_text(options.data, options.text_field)
    window = options.window or min(options.context or DEFAULT_WINDOW, DEFAULT_WINDOW)
    protocol = Protocol(window, options.documents, options.limit, stride=options.stride, spread=options.spread)
    check_stride(protocol, window)

    def run(model: Model, progress: Progress | None) -> Perplexity:
        sized = replace(protocol, batch_size=model.batch_size)
        if model.engine != TRANSFORMERS:
            return _in_engine(model, text, sized, progress)
        return perplexity(model.module, model.tokenizer, text, sized, progress)

    key = {"data": text.sha256, "text": text.protocol, "window": window, "separator": protocol.separator}
    key |= {name: getattr(protocol, name) for name in ("limit", "stride", "spread")}
    passes, engines = _passes(text, protocol, window), Job.engines_that("predicts")
    return [Job("perplexity", "perplexity", "tokens", key, run, engines=engines, passes=passes)]


def _passes(text: Text, protocol: Protocol, window: int) -> dict[Work, float]:
    """Windows, or documents of the mean length."""
    tokens = about_tokens(len(text.content))
    parts = max(1, tokens // (protocol.stride or window))
    if protocol.separator is not None:
        parts = text.content.count(protocol.separator) + 1
        window = max(1, min(window, tokens // parts))
    return {Work.prefill(window): float(min(parts, protocol.limit or parts))}


def check_stride(protocol: Protocol, window: int) -> None:
    """Raise EvaluationError for a stride that skips tokens, or of windows that do not follow each other."""
    stride = protocol.stride
    if stride is None:
        return
    for other, beside in (("documents", protocol.separator is not None), ("spread", protocol.spread)):
        if beside:
            problem, hint = "is for windows that follow each other", f"leave it out, or leave out {named(other)}"
            raise EvaluationError(f"stride-with-{other}", problem, field="stride", hint=hint)
    if not 1 <= stride <= window:
        expected = f"1 to the window's {window} tokens (a longer one skips some)"
        raise EvaluationError.out_of_range("stride", stride, expected)


def encode(
    tokenizer: PreTrainedTokenizerBase, text: Text, protocol: Protocol, config: Any
) -> tuple[list[list[int]], TextProtocol]:
    """The token sequences that a protocol makes of a text, and how they were made.

    Raises:
        EvaluationError: fewer tokens than one window, a window longer than the model takes, or foreign tokens.
    """
    longest = getattr(config, "max_position_embeddings", None)
    window = protocol.window if protocol.window is not None else min(longest or DEFAULT_WINDOW, DEFAULT_WINDOW)
    if longest and window > longest:
        raise EvaluationError(
            "window-too-long", f"is longer than the model's {longest} positions", field="window", given=window
        )
    if window < 2:
        raise EvaluationError(
            "window-too-short", "leaves nothing to predict", field="window", given=window, expected="2 or more"
        )
    check_stride(protocol, window)
    if protocol.separator is not None:
        pieces = documents(text, protocol.separator, protocol.limit, protocol.spread)
        whole = tokenizer(pieces, verbose=False)["input_ids"]
        tokens = sum(map(len, whole))
        sequences = [ids[:window] for ids in whole if len(ids) > 1]
        described = TextProtocol(documents=len(sequences), separator=protocol.separator, cut_at=window)
    else:
        ids = tokenizer([text.content], verbose=False)["input_ids"][0]
        count, tokens = len(ids) // window, len(ids)
        if count == 0:
            raise data_error(
                "text-too-short",
                f"{text.name} has {len(ids)} tokens, fewer than one window of {window}",
                hint=f"give more text, or a smaller {named('window')}",
            )
        stride = protocol.stride or window
        if stride < window:
            # The last window is the first that reaches the end.
            count = -(-max(tokens - window, 0) // stride) + 1
        begins = chosen(range(0, count * stride, stride), protocol.limit, protocol.spread)
        sequences = [ids[at : at + window] for at in begins]
        last = "dropped" if stride == window else "taken: every token but the first counts once"
        left = (len(sequences) - 1) * stride + window if 0 < len(sequences) < count else None
        described = TextProtocol(
            window=window, stride=stride, windows=len(sequences), last_shorter_window=last, tokens_read=left
        )
    if not sequences:
        raise data_error("text-too-short", f"no document of {text.name} has two tokens: there is nothing to predict")
    check_vocabulary(sequences, config.vocab_size)
    bos = tokenizer.bos_token_id
    opened = bos is not None and sequences[0][0] == bos
    how = {"bos": opened, "text": text.protocol, "text_tokens": tokens, "spread": protocol.spread}
    return sequences, msgspec.structs.replace(described, **how)


def exp(value: float) -> float:
    """The exponential; infinite from where a float cannot hold it."""
    return math.exp(value) if value < 700 else math.inf


EVALUATION = Task(
    "of a text, by a stated protocol",
    prepare,
    data="text",
    metric=Metric(
        "perplexity",
        "%",
        more_is_better=False,
        gate="perplexity-rise",
        limit=6.0,
        reason="LLaMA-13B without 7 of 40 sublayers went from 5.10 to 5.37 on WikiText-2, a rise of 5.3% "
        "(arXiv 2512.20636)",
    ),
    audit=AuditRole(
        key="texts",
        values="a file, or to wikitext2",
        limit="text_limit",
        quick=16,
        few=16,
        lacking="perplexity",
        unasked="no text was given",
    ),
    cached=False,
    place=1,
)
