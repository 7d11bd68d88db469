"""An evaluation that compares: the share of sublayers that a model has and the unpruned one has not, or the reverse."""

from __future__ import annotations

from collections.abc import Mapping

from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.evaluation.core.task import Metric, Task
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records.evidence import PairedEvidence


class Drift(PairedEvidence, frozen=True, kw_only=True, tag="example/drift/1"):
    """``edits`` that only one of two models has, for each layer."""

    drift: float

    def numbers(self) -> Mapping[str, float]:
        return {"drift": self.drift}


def prepare(options: TaskOptions) -> list[Job]:
    """One job for a model and the unpruned one."""
    return [Job("drift", "drift", "models", {}, compare=compare)]


def compare(model: Model, baseline: Model, progress: Progress | None) -> Drift:
    """The number of edits that differ, divided by the number of layers."""
    return Drift(drift=len({*model.edits} ^ {*baseline.edits}) / model.identity.layers)


EVALUATION = Task(
    "edits that only one of two models has",
    prepare,
    compares=True,
    metric=Metric("drift", "edits a layer", more_is_better=False),
)
