"""An evaluation: how many tokens a model's tokenizer knows."""

from __future__ import annotations

from collections.abc import Mapping

from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.evaluation.core.task import Metric, Task
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records.evidence import Evidence


class Vocabulary(Evidence, frozen=True, kw_only=True, tag="example/vocabulary/1"):
    """``tokens`` that the tokenizer knows."""

    tokens: int

    def numbers(self) -> Mapping[str, float]:
        return {"tokens": float(self.tokens)}


def prepare(options: TaskOptions) -> list[Job]:
    """One job, which needs no data."""
    return [Job("vocabulary", "vocabulary", "models", {}, count)]


def count(model: Model, progress: Progress | None) -> Vocabulary:
    """The number of tokens."""
    return Vocabulary(tokens=len(model.tokenizer.get_vocab()))


EVALUATION = Task("tokens that the tokenizer knows", prepare, metric=Metric("tokens", "tokens"))
