"""What a model makes of the tiny world: its loss beside the stories' own entropy, and the tasks, on worlds held out."""

import hashlib
import math
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from gatenorm.demo.tasks import SPLIT, Kind, items
from gatenorm.demo.tinyworld import END, story_of
from gatenorm.engines import engine_named
from gatenorm.evaluation.core.choices import judged
from gatenorm.evaluation.core.text import Text
from gatenorm.evaluation.statistics.paired_statistics import mean_figure
from gatenorm.evaluation.tasks.perplexity import Protocol, perplexity
from gatenorm.models.model import Model
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

STORIES, ITEMS = 40, 80


class WorldTask(TaskEvidence, frozen=True, kw_only=True, tag="gatenorm/demo-task/1"):
    """A task on worlds that the built-in model was not trained on."""

    @property
    def title(self) -> str:
        return "tasks on worlds never trained on"


def held_out_perplexity(model: Model, stories: int = STORIES) -> Perplexity:
    """The model's loss on held-out stories and, as ``entropy``, theirs under their generator, in nats a token.

    Raises:
        EvaluationError: the tokenizer is not the tiny world's, or logits are not finite.
    """
    made = [story_of(SPLIT, "perplexity", number) for number in range(stories)]
    content = END + "".join(story.text + END for story, _ in made)
    text = Text(
        f"{stories} held-out stories", content, _digest([content]), "stories of tinyworld, worlds never trained on"
    )
    found = perplexity(model.module, model.tokenizer, text, Protocol(separator=END))
    entropy = sum(nats for _, nats in made) / found.tokens
    return msgspec.structs.replace(
        found, entropy=entropy, word_perplexity=None, bits_per_byte=None, data=text.identity()
    )


def task(model: Model, kind: Kind, count: int = ITEMS, progress: Progress | None = None) -> WorldTask:
    """How sure the model is of the right candidates, item by item and in the mean.

    With ``l_c`` the log-likelihood of candidate ``c`` and ``r`` the right one: ``accuracy`` is the share of items with
    ``l_r`` above all others; ``probability`` the mean of ``p_r = exp(l_r) / sum_c exp(l_c)``; ``log_probability`` the
    mean of ``log p_r`` and ``margin`` that of ``l_r - max_{c != r} l_c``, both in nats.

    Args:
        progress: called with (sequences done, in all).

    Raises:
        EvaluationError: tokens outside the model's vocabulary, or logits that are not finite.
    """
    began = time.perf_counter()
    asked = items(kind, count)
    prompts = model.encode([item.prompt for item in asked])
    pairs = [
        (prompt, ids)
        for prompt, item in zip(prompts, asked, strict=True)
        for ids in model.encode(list(item.candidates))
    ]
    likelihoods = iter(engine_named(model.engine, "generates").likelihoods(model, pairs, progress))
    found = [judged([next(likelihoods).loglikelihood for _ in item.candidates], item.answer) for item in asked]
    accuracy = sum(f["accuracy"] for f in found) / count
    metrics = {"accuracy": Figure(value=accuracy, stderr=math.sqrt(accuracy * (1 - accuracy) / count))}
    metrics |= {n: mean_figure([f[n] for f in found]) for n in ("probability", "log_probability", "margin")}
    distances = [i.distance for i in asked if i.distance is not None]
    hardware: dict[str, Any] = model.hardware()
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
            **hardware,
        ),
        data=Data(name=f"tinyworld {kind.name}", sha256=digest),
        seconds=time.perf_counter() - began,
        items=tuple(TaskItem(id=number, metrics=scored) for number, scored in enumerate(found)),
    )


def _topic(name: str) -> Topic:
    return RETRIEVAL if name.startswith("recall") else REFUSAL if name.startswith("refusal") else TASKS


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
