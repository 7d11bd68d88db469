"""The built-in model's stories and tasks as evaluation jobs, so that they are cached and compared like all others."""

from __future__ import annotations

import hashlib
import inspect
import time
from functools import partial

from gatenorm.demo import evaluation
from gatenorm.demo.tasks import KINDS, SPLIT, Kind, items
from gatenorm.errors import EvaluationError
from gatenorm.evaluation.job import Job, Measured, Progress, Request
from gatenorm.evaluation.paired import standard_error
from gatenorm.evaluation.subject import Subject


def prepare(request: Request) -> list[Job]:
    """Perplexity on held-out stories, then every kind of task; ``limit`` is the number of items of each kind.

    Raises:
        EvaluationError: an option that is about a text.
    """
    for option, given in {"--documents": request.documents, "--window": request.window}.items():
        if given is not None:
            raise EvaluationError(f"{option} is about a text: give --data, or leave it out")
    return [_stories(_default("stories")), *_tasks(request, "")]


def stories(request: Request) -> list[Job]:
    """Perplexity on held-out stories alone; ``limit`` is their number."""
    return [_stories(request.limit or _default("stories"))]


def abilities(request: Request) -> list[Job]:
    """Every kind of task that is neither about refusing nor about recalling."""
    return [job for job in _tasks(request, "") if not job.title.startswith(("refusal", "recall"))]


def refusal(request: Request) -> list[Job]:
    """Requests that are granted or refused as forbidden in the built-in model's world."""
    return _tasks(request, "refusal")


def recall(request: Request) -> list[Job]:
    """Facts said at several distances in the built-in model's stories."""
    return _tasks(request, "recall")


def _tasks(request: Request, prefix: str) -> list[Job]:
    count = request.limit or _default("count")
    return [
        Job(
            "demo-task",
            kind.name,
            "items",
            {"task": kind.name, "count": count},
            partial(_task, kind, count),
        )
        for kind in KINDS
        if kind.name.startswith(prefix)
    ]


def _stories(count: int) -> Job:
    def run(subject: Subject, progress: Progress | None) -> Measured:
        found = evaluation.held_out_perplexity(subject.model, subject.tokenizer, count)
        items = [
            {"id": number, "metrics": {"nll": loss}, "weight": tokens}
            for number, (tokens, loss) in enumerate(found.losses)
        ]
        return Measured(found.kind, found.figures, found.protocol, found.data, found.seconds, items)

    return Job("perplexity", "stories", "stories", {"stories": count}, run)


def _task(kind: Kind, count: int, subject: Subject, progress: Progress | None) -> Measured:
    """The share of items whose right candidate is the most likely, item by item."""
    began = time.perf_counter()
    asked = items(kind, count)
    scored = evaluation.scores(subject.model, subject.tokenizer, asked)
    if progress:
        progress(count, count)
    right = [float(max(range(len(s)), key=s.__getitem__) == i.answer) for i, s in zip(asked, scored, strict=True)]
    figures = {
        "accuracy": sum(right) / count,
        "chance": sum(i.chance for i in asked) / count,
        "items": float(count),
        "standard_error": standard_error(right),
    }
    distances = [i.distance for i in asked if i.distance is not None]
    protocol = {
        "task": kind.name,
        "asks": kind.asks,
        "scoring": "log-likelihood of each candidate word",
        **({"distance": f"{min(distances)} to {max(distances)} tokens"} if distances else {}),
        **subject.hardware(),
    }
    data = {"name": f"tinyworld {kind.name}", "sha256": _digest(kind, count), "worlds": SPLIT}
    records = [{"id": n, "metrics": {"accuracy": value}} for n, value in enumerate(right)]
    return Measured("demo-task", figures, protocol, data, time.perf_counter() - began, records)


def _digest(kind: Kind, count: int) -> str:
    parts = [part for i in items(kind, count) for part in (i.prompt, *i.candidates, str(i.answer))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _default(name: str) -> int:
    """How many there are of it when nobody says otherwise, as the evaluation itself has it."""
    return int(inspect.signature(evaluation.evaluate).parameters[name].default)
