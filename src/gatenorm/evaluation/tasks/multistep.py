"""Behaviour of several steps: whether the right continuation is likelier than those with a mistake in one step.

Averages over single questions hide its loss (arXiv 2602.01997). Scored by log-likelihood, so that a small model, which
would rarely write the whole of it, shows a difference too. ``core/multistep_items.py`` writes the items.
"""

import hashlib
import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from gatenorm.evaluation.core.audit_role import AuditRole
from gatenorm.evaluation.core.choices import judged
from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.evaluation.core.likelihood import continuations
from gatenorm.evaluation.core.multistep_items import CANDIDATES, KINDS, Item, Kind, items
from gatenorm.evaluation.core.task import Metric, Task
from gatenorm.evaluation.statistics.paired_statistics import mean_figure
from gatenorm.models.architecture import Work
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records.evidence import MULTISTEP, Data, Multistep, TaskItem, TaskProtocol

ITEMS = 40


def prepare(options: TaskOptions) -> list[Job]:
    """A job for each kind of item, of which ``limit`` are asked."""
    count = options.limit or ITEMS

    def job(kind: Kind) -> Job:
        def run(model: Model, progress: Progress | None) -> Multistep:
            return multistep(model, kind, count, progress)

        made = items(kind, count)
        # Digits and brackets are tokens of their own: about two characters each.
        prompt = sum(len(item.prompt) for item in made) // count // 2
        choice = sum(len(item.candidates[0]) for item in made) // count // 2
        passes = {Work.prefill(prompt): float(count), Work(choice, CANDIDATES, past=prompt): float(count)}
        key = {"items": _digest(made), "scoring": "log-likelihood among candidates"}
        engines = Job.engines_that("generates")
        return Job("multistep", f"multistep, {kind.name}", "texts", key, run, engines=engines, passes=passes)

    return [job(kind) for kind in KINDS]


def multistep(model: Model, kind: Kind, count: int = ITEMS, progress: Progress | None = None) -> Multistep:
    """How much likelier the right continuations are than the wrong ones: means of what :func:`judged` says of items.

    Args:
        progress: called with (sequences done, in all).

    Raises:
        EvaluationError: tokens outside the model's vocabulary, or logits that are not finite.
    """
    began = time.perf_counter()
    asked = items(kind, count)
    hardware: dict[str, Any] = model.hardware()
    pairs = [pair for item in asked for pair in _encoded(model, item)]
    scored = iter(continuations(model, pairs, progress))
    found = [judged([next(scored).loglikelihood for _ in item.candidates], item.answer) for item in asked]
    return Multistep(
        topic=MULTISTEP,
        name=kind.name,
        metrics={name: mean_figure([one[name] for one in found]) for name in found[0]},
        count=count,
        chance=1 / CANDIDATES,
        protocol=TaskProtocol(asks=kind.asks, scoring="log-likelihood of each whole continuation", **hardware),
        data=Data(name=f"multistep {kind.name}", sha256=_digest(asked), items=count),
        seconds=time.perf_counter() - began,
        items=tuple(TaskItem(id=number, metrics=one) for number, one in enumerate(found)),
    )


def _encoded(model: Model, item: Item) -> list[tuple[list[int], list[int]]]:
    """Prompt and continuation in tokens, cut where the tokens of all continuations still are the prompt's."""
    prompt, *whole = model.encode([item.prompt, *(item.prompt + candidate for candidate in item.candidates)])
    same = sum(1 for _ in takewhile(lambda column: len({*column}) == 1, zip(prompt, *whole, strict=False)))
    return [(ids[:same], ids[same:]) for ids in whole]


def _digest(asked: Sequence[Item]) -> str:
    parts = (part for item in asked for part in (item.prompt, *item.candidates, str(item.answer)))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


EVALUATION = Task(
    "items of several steps: brackets, sums, copying, worked problems",
    prepare,
    metric=Metric(
        "accuracy",
        "points",
        gate="multistep-loss",
        limit=10.0,
        reason="averages hide damage to behaviour of several steps (arXiv 2602.01997); with the items that are asked "
        "by default a change is known to 5 to 8 points either way, so that a smaller limit would settle nothing",
    ),
    audit=AuditRole(
        key="multistep",
        off="off",
        limit="multistep_limit",
        quick=8,
        reads_text=True,
        called="behaviour of several steps",
        lacking="behaviour of several steps",
    ),
    place=5,
)
