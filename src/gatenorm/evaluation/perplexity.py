"""Perplexity: ``exp`` of the mean negative log-likelihood over all predicted tokens.

The protocol is part of the figure. Either the whole text is tokenised once and cut into windows that do not overlap (a
last, shorter window is dropped), or every document is taken by itself and cut at the model's longest input. In a window
or document of n tokens, n - 1 are predicted. Logits become float32 log-probabilities, sums are float64.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatenorm.errors import EvaluationError
from gatenorm.evaluation.text import Text, documents
from gatenorm.families import Layout
from gatenorm.records import Evidence

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Of float32 logits at a time; what a batch may hold.
_LOGITS_BYTES = 512 << 20
DEFAULT_WINDOW = 2048


@dataclass(frozen=True)
class Protocol:
    """How a text becomes token sequences.

    ``window`` is the longest input (``None``: the model's maximum, at most 2,048); ``separator`` cuts documents, of
    which the first ``limit`` count; without it, ``limit`` counts windows.
    """

    window: int | None = None
    separator: str | None = None
    limit: int | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Perplexity:
    """The figure with what it rests on; ``nll`` is in nats per predicted token."""

    perplexity: float
    nll: float
    tokens: int
    sequences: int
    seconds: float
    protocol: dict[str, Any]


def perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: Text,
    protocol: Protocol,
    progress: Callable[[int, int], None] | None = None,
) -> Perplexity:
    """Measure a model's perplexity on a text.

    Args:
        progress: called with (tokens predicted, tokens to predict in all).

    Raises:
        EvaluationError: text shorter than one window, tokens outside the model's vocabulary, or logits that are not
            finite.
    """
    started = time.perf_counter()
    sequences, described = encode(tokenizer, text, protocol, model.config)
    total = sum(len(s) - 1 for s in sequences)
    nll = 0.0
    done = 0
    for batch in _batches(sequences, protocol.batch_size, model.config.vocab_size):
        nll += negative_log_likelihood(model, batch)
        done += sum(len(s) - 1 for s in batch)
        if progress:
            progress(done, total)
    mean = nll / total
    return Perplexity(
        perplexity=math.exp(mean) if mean < 700 else math.inf,
        nll=mean,
        tokens=total,
        sequences=len(sequences),
        seconds=time.perf_counter() - started,
        protocol={**described, "dtype": str(model.dtype).removeprefix("torch."), "device": model.device.type},
    )


def measure(
    layout: Layout,
    text: Text,
    protocol: Protocol,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evidence:
    """Load a checkpoint, measure its perplexity, and give the figure as evidence.

    Raises:
        EvaluationError, CheckpointError, MissingExtraError: as :func:`perplexity` and loading.
    """
    from gatenorm.runtimes.transformers import dtype_for, load, load_tokenizer, versions

    directory = layout.checkpoint.directory
    tokenizer = load_tokenizer(directory)
    model = load(directory, dtype=dtype_for(dtype, device), device_map={"": device})
    result = perplexity(model, tokenizer, text, protocol, progress)
    return Evidence(
        kind="perplexity",
        model=layout.identity(),
        removed=layout.drop,
        figures={"perplexity": result.perplexity, "nll": result.nll, "tokens": result.tokens},
        protocol=result.protocol,
        data=text.identity(),
        seconds=result.seconds,
        versions=versions(),
    )


def check_hardware(device: str, dtype: str) -> None:
    """Refuse a device or dtype that cannot be used, before a model is loaded.

    Raises:
        EvaluationError: no such device or dtype.
        MissingExtraError: torch or transformers is not installed.
    """
    from gatenorm.runtimes.transformers import check_device, dtype_for

    check_device(device)
    dtype_for(dtype, device)


def encode(
    tokenizer: PreTrainedTokenizerBase, text: Text, protocol: Protocol, config: Any
) -> tuple[list[list[int]], dict[str, Any]]:
    """The token sequences that a protocol makes of a text, and the protocol in words.

    Raises:
        EvaluationError: fewer tokens than one window, a window longer than the model takes, or foreign tokens.
    """
    longest = getattr(config, "max_position_embeddings", None)
    window = protocol.window if protocol.window is not None else min(longest or DEFAULT_WINDOW, DEFAULT_WINDOW)
    if longest and window > longest:
        raise EvaluationError(f"--window {window} is longer than the model's {longest} positions")
    if window < 2:
        raise EvaluationError(f"--window {window} leaves nothing to predict: expected 2 or more")
    if protocol.separator is not None:
        pieces = documents(text, protocol.separator, protocol.limit)
        sequences = [ids[:window] for ids in tokenizer(pieces, verbose=False)["input_ids"] if len(ids) > 1]
        described: dict[str, Any] = {"documents": len(sequences), "separator": protocol.separator, "cut_at": window}
    else:
        ids = tokenizer([text.content], verbose=False)["input_ids"][0]
        count = len(ids) // window
        if count == 0:
            raise EvaluationError(
                f"{text.name} has {len(ids)} tokens, fewer than one window of {window}: give more text, or --window"
            )
        sequences = [ids[i * window : (i + 1) * window] for i in range(count)][: protocol.limit]
        described = {"window": window, "stride": window, "windows": len(sequences), "last_shorter_window": "dropped"}
    if not sequences:
        raise EvaluationError(f"no document of {text.name} has two tokens: there is nothing to predict")
    highest = max(max(s) for s in sequences)
    if highest >= config.vocab_size:
        raise EvaluationError(
            f"token {highest} is outside the model's vocabulary of {config.vocab_size}: wrong tokenizer?"
        )
    bos = tokenizer.bos_token_id
    described["bos"] = bos is not None and sequences[0][0] == bos
    described["text"] = text.protocol
    return sequences, described


def negative_log_likelihood(model: PreTrainedModel, batch: Sequence[Sequence[int]]) -> float:
    """Summed negative log-likelihood of a batch in nats; sequences of unequal length are padded on the right.

    Raises:
        EvaluationError: logits that are not finite.
    """
    import torch

    length = max(len(s) for s in batch)
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    counts = torch.zeros(len(batch), length, dtype=torch.bool)
    for row, sequence in enumerate(batch):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        counts[row, : len(sequence)] = True
    ids, counts = ids.to(model.device), counts.to(model.device)
    # Without padding no mask is given: attention kernels are faster that way.
    mask = None if bool(counts.all()) else counts.long()
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        # [batch, length - 1, vocabulary] -> one number a predicted token
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        ).view(len(batch), length - 1)
        total = float(losses.double()[counts[:, 1:]].sum())
    if not math.isfinite(total):
        raise EvaluationError("the model's logits are not finite (NaN or infinity): try --dtype float32")
    return total


def _batches(sequences: list[list[int]], size: int | None, vocabulary: int) -> Iterator[list[list[int]]]:
    """Sequences of like length together; as many as the logits' memory allows where no size is given."""
    ordered = sorted(sequences, key=len, reverse=True)
    while ordered:
        fit = max(1, _LOGITS_BYTES // (len(ordered[0]) * vocabulary * 4))
        count = size or min(fit, 16)
        yield ordered[:count]
        ordered = ordered[count:]
