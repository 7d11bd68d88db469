"""An evaluation: how many tokens a model's tokenizer knows."""

from __future__ import annotations

from gatenorm.evaluation.core.job import Job, Measured, Progress, Request
from gatenorm.evaluation.core.registry import Task
from gatenorm.models.model import Model


def prepare(request: Request) -> list[Job]:
    """One job, which needs no data."""
    return [Job("vocabulary", "vocabulary", "models", {}, count)]


def count(model: Model, progress: Progress | None) -> Measured:
    """The number of tokens."""
    return Measured("vocabulary", {"tokens": float(len(model.tokenizer.get_vocab()))}, {}, {"name": "none"}, 0.0)


EVALUATION = Task("vocabulary", "tokens that the tokenizer knows", "example.vocabulary")
