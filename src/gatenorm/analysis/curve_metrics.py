"""What a curve measures of every pruned model beside its perplexity: tasks of an evaluation, or any function of it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.job import Job
from gatenorm.models.model import Model
from gatenorm.records import ATTENTION, Edits, to_json

Figures = dict[str, float]
Measure = Callable[[Any], float]
ACCURACY = "accuracy"
# What a task is judged by: the first of these among its figures.
_SHARES_OF_RIGHT = ("acc_norm", "acc", "accuracy", "choice")


class Probe(Protocol):
    """Something that is measured of the model without some layers' attention."""

    @property
    def name(self) -> str:
        """What the state file and errors call it."""

    @property
    def key(self) -> Mapping[str, Any]:
        """All that decides its figures beside the model and the hardware, as plain JSON."""

    def measure(self, model: Model, layers: Collection[int]) -> Figures:
        """The figures by name, without the attention of ``layers``."""

    def describe(self) -> Mapping[str, Any]:
        """The protocol, as far as it is known by now."""


@dataclass(frozen=True)
class FunctionProbe:
    """Any function of a model, which runs it without a key/value cache."""

    name: str
    function: Measure

    @property
    def key(self) -> Mapping[str, Any]:
        """Its name in its module: a function that was changed under the same name needs a new state file."""
        return {name: getattr(self.function, f"__{name}__", None) for name in ("module", "qualname")}

    def measure(self, model: Model, layers: Collection[int]) -> Figures:
        with model.without(layers) as less:
            return {self.name: float(self.function(less.module))}

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "function"}


@dataclass(frozen=True)
class TaskProbe:
    """A task of an evaluation, with the figures that the same task gives of the pruned checkpoint.

    ``protocol`` is filled by the first measurement.
    """

    job: Job
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.job.title

    @property
    def key(self) -> Mapping[str, Any]:
        return {"kind": self.job.kind, **self.job.key}

    def measure(self, model: Model, layers: Collection[int]) -> Figures:
        if self.job.run is None:
            raise _compares(self.name)
        records = self.job.run(model.edited_copy(Edits.of(ATTENTION, layers)), None)
        if not self.protocol:
            self.protocol.update(
                {"figure": headline(records.numbers()), **records.protocol.facts(), "data": to_json(records.data)}
            )
        return {f"{self.name}.{figure}": float(value) for figure, value in records.numbers().items()}

    def describe(self) -> Mapping[str, Any]:
        return self.protocol or {"kind": self.job.kind}


def headline(figures: Mapping[str, Any]) -> str | None:
    """The figure that a task is judged by: ``acc_norm`` where it has one, else the plain share of right answers."""
    return next((figure for figure in _SHARES_OF_RIGHT if figure in figures), None)


def mean_accuracy(figures: Mapping[str, float], tasks: Sequence[str]) -> float | None:
    """The mean of the tasks' shares of right answers; ``None`` where none of them has one.

    Args:
        figures: by ``task.figure``.
        tasks: the tasks' names.
    """
    accuracies = []
    for task in tasks:
        own = {name.removeprefix(f"{task}."): v for name, v in figures.items() if name.startswith(f"{task}.")}
        figure = headline(own)
        if figure is not None:
            accuracies.append(own[figure])
    return sum(accuracies) / len(accuracies) if accuracies else None


def check_probes(model: Model, probes: Sequence[Probe]) -> None:
    """Raise EvaluationError, before anything is run, for what cannot be measured of this model.

    That is two measurements of one name, a task that compares two models, a model without a tokenizer, or tasks or
    timing of a model that is spread over devices.
    """
    names = [probe.name for probe in probes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise EvaluationError("measured-twice", "is named twice", field="tasks", given=twice)
    for probe in probes:
        if isinstance(probe, FunctionProbe):
            continue
        if model.device == "auto":
            problem = f"spreads the model, but {probe.name} is measured on one device"
            raise EvaluationError("one-device-needed", problem, field="device", given="auto", expected="cpu or cuda")
        if isinstance(probe, TaskProbe):
            if probe.job.run is None:
                raise _compares(probe.name)
            _ = model.tokenizer  # refuses a model that has none


def _compares(task: str) -> EvaluationError:
    return EvaluationError("task-compares", "compares two models, as only eval does", field="tasks", given=task)
