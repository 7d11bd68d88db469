"""What a model makes of the tiny world: its loss beside the stories' own entropy, and the tasks, on worlds held out."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gatenorm.demo.hard_tasks import ALL_KINDS
from gatenorm.demo.tasks import SPLIT, Item, Kind, items
from gatenorm.demo.tinyworld import END, story_of
from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.text import Text
from gatenorm.evaluation.statistics.paired_statistics import mean_figure
from gatenorm.evaluation.tasks.perplexity import Protocol, perplexity
from gatenorm.models.forward import not_finite
from gatenorm.progress import Progress
from gatenorm.records.evidence import (
    REFUSAL,
    RETRIEVAL,
    TASKS,
    Data,
    Figure,
    Perplexity,
    TaskEvidence,
    TaskItem,
    TaskProtocol,
    Topic,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STORIES, ITEMS = 40, 80
_BATCH = 20


class WorldTask(TaskEvidence, frozen=True, kw_only=True, tag="gatenorm/demo-task/1"):
    """A task on worlds that the built-in model was not trained on."""

    @property
    def title(self) -> str:
        return "tasks on worlds never trained on"


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    stories: int = STORIES,
    count: int = ITEMS,
) -> list[Perplexity | WorldTask]:
    """Perplexity on stories of held-out worlds, then every kind of task.

    The first record (kind ``perplexity``) states the entropy of the same stories under their generator, in nats per
    predicted token, beside the model's loss ``nll``. The others (kind ``demo-task``) are those of :func:`task`.

    Args:
        stories: how many stories the perplexity is taken on.
        count: items of each kind.

    Raises:
        EvaluationError: the tokenizer is not the tiny world's, or logits are not finite.
    """
    return [
        held_out_perplexity(model, tokenizer, stories),
        *(task(model, tokenizer, kind, count) for kind in ALL_KINDS),
    ]


def held_out_perplexity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stories: int) -> Perplexity:
    """The model's loss on held-out stories and, as ``entropy``, theirs."""
    made = [story_of(SPLIT, "perplexity", number) for number in range(stories)]
    content = END + "".join(story.text + END for story, _ in made)
    text = Text(
        f"{stories} held-out stories", content, _digest([content]), "stories of tinyworld, worlds never trained on"
    )
    found = perplexity(model, tokenizer, text, Protocol(separator=END))
    entropy = sum(nats for _, nats in made) / found.tokens
    return msgspec.structs.replace(
        found, entropy=entropy, word_perplexity=None, bits_per_byte=None, data=text.identity()
    )


def task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    kind: Kind,
    count: int = ITEMS,
    progress: Progress | None = None,
) -> WorldTask:
    """How sure the model is of the right candidates, item by item and in the mean.

    With ``l_c`` the log-likelihood of candidate ``c`` and ``r`` the right one: ``accuracy`` is the share of items with
    ``l_r`` above all others; ``probability`` the mean of ``p_r = exp(l_r) / sum_c exp(l_c)``; ``log_probability`` the
    mean of ``log p_r`` and ``margin`` that of ``l_r - max_{c != r} l_c``, both in nats.

    Args:
        progress: called with (sequences done, in all).
    """
    began = time.perf_counter()
    asked = items(kind, count)
    found = [_verdict(s, i.answer) for i, s in zip(asked, scores(model, tokenizer, asked, progress), strict=True)]
    accuracy = sum(f["accuracy"] for f in found) / count
    metrics = {"accuracy": Figure(value=accuracy, stderr=math.sqrt(accuracy * (1 - accuracy) / count))}
    metrics |= {n: mean_figure([f[n] for f in found]) for n in ("probability", "log_probability", "margin")}
    distances = [i.distance for i in asked if i.distance is not None]
    digest = _digest([part for i in asked for part in (i.prompt, *i.candidates, str(i.answer))])
    return WorldTask(
        name=kind.name,
        topic=_topic(kind.name),
        metrics=metrics,
        count=count,
        chance=sum(i.chance for i in asked) / count,
        protocol=TaskProtocol(
            asks=kind.asks,
            scoring="log-likelihood of each candidate word",
            beyond_training=kind.beyond or "",
            distance=f"{min(distances)} to {max(distances)} tokens" if distances else "",
            worlds=SPLIT,
            dtype=str(model.dtype).removeprefix("torch."),
            device=model.device.type,
        ),
        data=Data(name=f"tinyworld {kind.name}", sha256=digest),
        seconds=time.perf_counter() - began,
        items=tuple(TaskItem(id=number, metrics=scored) for number, scored in enumerate(found)),
    )


def _topic(name: str) -> Topic:
    return RETRIEVAL if name.startswith("recall") else REFUSAL if name.startswith("refusal") else TASKS


def _verdict(likelihoods: Sequence[float], answer: int) -> dict[str, float]:
    """One item's metrics out of its candidates' log-likelihoods."""
    right, best = likelihoods[answer], max(likelihoods)
    log_sum = best + math.log(math.fsum(math.exp(value - best) for value in likelihoods))
    rival = max(value for number, value in enumerate(likelihoods) if number != answer)
    return {
        "accuracy": float(max(range(len(likelihoods)), key=likelihoods.__getitem__) == answer),
        "probability": math.exp(right - log_sum),
        "log_probability": right - log_sum,
        "margin": right - rival,
    }


def scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Item],
    progress: Progress | None = None,
) -> list[tuple[float, ...]]:
    """The log-likelihood of every candidate of every item after its prompt, in nats.

    Candidates that share all but their last token share a forward pass: with one token a word, an item is one pass.

    Raises:
        EvaluationError: tokens outside the model's vocabulary, or logits that are not finite.
    """
    wanted: dict[tuple[int, ...], list[tuple[int, int, int, tuple[int, ...]]]] = {}
    for number, item in enumerate(asked):
        prompt = list(tokenizer(item.prompt)["input_ids"])
        for which, candidate in enumerate(item.candidates):
            ids = tuple(tokenizer(candidate)["input_ids"])
            wanted.setdefault((*prompt, *ids[:-1]), []).append((number, which, len(prompt), ids))
    found = [[0.0] * len(item.candidates) for item in asked]
    rows = sorted(wanted, key=len)
    for begin in range(0, len(rows), _BATCH):
        batch = rows[begin : begin + _BATCH]
        for row, likelihoods in zip(batch, _likelihoods(model, batch), strict=True):
            for number, which, start, ids in wanted[row]:
                found[number][which] = sum(likelihoods[start - 1 + n][token].item() for n, token in enumerate(ids))
        if progress:
            progress(begin + len(batch), len(rows))
    return [tuple(likelihoods) for likelihoods in found]


def _likelihoods(model: PreTrainedModel, batch: Sequence[Sequence[int]]) -> list[Any]:
    """Log-probabilities of what follows each position, [tokens, vocabulary] a row.

    Padding stands on the right, where causal attention does not see it.
    """
    import torch

    highest = max(max(row) for row in batch)
    if highest >= model.config.vocab_size:
        raise EvaluationError(
            "token-outside-vocabulary",
            f"token {highest} is outside the model's vocabulary of {model.config.vocab_size}: wrong tokenizer?",
        )
    longest = max(map(len, batch))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in batch], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits
    # Only the ends of the rows are asked for, a few tokens each.
    found = [_Ends(logits[n, : len(row)]) for n, row in enumerate(batch)]
    if not all(math.isfinite(logits[n, len(row) - 1].sum().item()) for n, row in enumerate(batch)):
        raise not_finite(model)
    return found


class _Ends:
    """Log-probabilities by position, normalised only where they are asked for."""

    def __init__(self, logits: Any):
        self._logits = logits

    def __getitem__(self, position: int) -> Any:
        return self._logits[position].float().log_softmax(-1)


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
