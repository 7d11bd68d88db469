"""Jobs: a frozen record for each kind of work, which any process can carry out, and its result.

A job is its own identity: two jobs with equal fields have equal results. Titles do not count, nor the ``places`` where
models and files lie, whose content other fields hold the hashes of.
"""

from functools import cached_property
from typing import ClassVar

from gatenorm.engines import engines
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.extensions import working
from gatenorm.records import Edits, Plan, Scores, to_json
from gatenorm.records.evidence import Measurements
from gatenorm.records.serialization import Value
from gatenorm.results import Fingerprint, versions


def _packages() -> tuple[str, ...]:
    """What figures may rest on besides :data:`SOFTWARE`: lm-eval's tasks, adapters, and whatever engine is asked."""
    return ("numpy", "lm_eval", "peft", *(kind.package for kind in working(engines()).values()))


class Job(Value, frozen=True, kw_only=True, dict=True, tag_field="kind"):
    """One piece of work on the model with this ``content``, in so many threads.

    ``title`` is for people, ``like`` groups jobs that take about as long as each other. ``kept`` is false for what
    leaves something better than a record behind, as a build does.
    """

    title: str
    like: str
    model: str
    content: str
    threads: int

    kept: ClassVar[bool] = True
    places: ClassVar[tuple[str, ...]] = ()

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Everything that its result follows from."""
        left_out = {"title", "like", "model", "content", *self.places}
        fields = {name: value for name, value in to_json(self).items() if name not in left_out}
        return Fingerprint.of(fields, {"model": self.content}, _packages())

    @property
    def digest(self) -> str:
        """The name under which the result is kept."""
        return self.fingerprint.digest


class Score(Job, frozen=True, kw_only=True, tag="score"):
    """A ranking; ``tokens`` identifies those that it looks at, which come from ``source``."""

    places = ("source",)

    criterion: str
    seed: int
    source: str | None = None
    tokens: dict[str, str] | None = None
    samples: int = 0
    length: int = 0
    device: str = "cpu"
    dtype: str = "auto"


class Build(Job, frozen=True, kw_only=True, tag="build"):
    """A pruned directory."""

    kept = False
    places = ("out",)

    out: str
    plan: Plan


class FitOperations(Job, frozen=True, kw_only=True, tag="fit"):
    """A directory with fitted operations in the place of sublayers, all ``edits`` of a model and those of ``plan``.

    ``tokens`` identify those to fit on, which come from ``sources``, in windows of ``length``.
    """

    kept = False
    places = ("out", "plan", "sources")

    name: str
    out: str
    plan: Plan
    edits: Edits
    sources: tuple[str, ...]
    tokens: tuple[dict[str, str], ...]
    length: int
    device: str
    dtype: str
    seed: int


class Evaluate(Job, frozen=True, kw_only=True, tag="evaluate"):
    """One evaluation of a pruned directory, or (``in_memory``) of the model with ``edits``, which remove.

    ``protocol`` is what decides the result besides the model: hashes of all data, and how they are read. ``recovery``
    is the hash of what a directory says of its training: the same edits and training are another model.
    """

    places = ("data", "baseline", "request")

    edits: Edits
    in_memory: bool
    recovery: str | None
    protocol: object
    task: str
    data: tuple[str, ...]
    request: TaskOptions
    baseline: str | None
    device: str
    dtype: str
    batch_size: int | None


class Time(Job, frozen=True, kw_only=True, tag="time"):
    """Timings of the unpruned model and of variants in turns, true of one ``machine``."""

    places = ("variants",)

    variants: tuple[str, ...]
    edits: tuple[Edits, ...]
    machine: dict[str, str | int | None]
    engine: str
    lengths: tuple[int, ...]
    batches: tuple[int, ...]
    new_tokens: int
    rounds: int
    device: str
    dtype: str
    seed: int


class Export(Job, frozen=True, kw_only=True, tag="export"):
    """An export where there is none, and whether an engine computes the same on it."""

    places = ("out",)

    name: str
    edits: Edits
    recovery: str | None
    out: str
    to: str
    engine: str
    tokens: int = 32


class Recover(Job, frozen=True, kw_only=True, tag="recover"):
    """Training of a pruned directory on ``data``, whose content ``text`` identifies."""

    places = ("out", "parent", "data")

    name: str
    edits: Edits
    out: str
    parent: str
    data: str
    text: dict[str, str]
    steps: int | None
    objective: str | None
    device: str
    dtype: str
    seed: int


class Result(Value, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a job: evidence or scores, or the ``error`` why not.

    ``labels`` are what timings call the models, in their order; ``code`` is the hash of the code that did it.
    """

    records: Measurements = Measurements()
    scores: Scores | None = None
    labels: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0
    code: str = ""


def software() -> dict[str, str]:
    """Versions of the software that results rest on."""
    return versions(_packages())
