"""What a curve measures of every pruned model beside its perplexity: tasks of an evaluation, or any function of it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.job import Job
from gatenorm.models.model import Model
from gatenorm.records import ATTENTION, Edits, Evidence
from gatenorm.records.evidence import Measured

E = TypeVar("E", bound=Evidence)
Measure = Callable[[Any], float]


class Probe(Protocol):
    """Something that is measured of the model without some layers' attention."""

    @property
    def name(self) -> str:
        """What the state file and errors call it."""

    @property
    def key(self) -> Mapping[str, object]:
        """All that decides its figures beside the model and the hardware, as plain JSON."""

    def measure(self, model: Model, layers: Collection[int]) -> Evidence:
        """The record, without its items, of the model without the attention of ``layers``."""


@dataclass(frozen=True)
class FunctionProbe:
    """Any function of a model, which runs it without a key/value cache."""

    name: str
    function: Measure

    @property
    def key(self) -> Mapping[str, object]:
        """Its name in its module: a function that was changed under the same name needs a new state file."""
        return {name: getattr(self.function, f"__{name}__", None) for name in ("module", "qualname")}

    def measure(self, model: Model, layers: Collection[int]) -> Measured:
        with model.without(layers) as less:
            return Measured(name=self.name, value=float(self.function(less.module)))


@dataclass(frozen=True)
class TaskProbe:
    """A task of an evaluation, with the figures that the same task gives of the pruned checkpoint."""

    job: Job

    @property
    def name(self) -> str:
        return self.job.title

    @property
    def key(self) -> Mapping[str, object]:
        return {"kind": self.job.kind, **self.job.key}

    def measure(self, model: Model, layers: Collection[int]) -> Evidence:
        assert self.job.run is not None  # as `check_probes` has seen
        return _without_items(self.job.run(model.edited_copy(Edits.of(ATTENTION, layers)), None))


def _without_items(record: E) -> E:
    return replace(record, items=()) if record.paired_items else record


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
                problem = "compares two models, as only eval does"
                raise EvaluationError("task-compares", problem, field="tasks", given=probe.name)
            _ = model.tokenizer  # refuses a model that has none
