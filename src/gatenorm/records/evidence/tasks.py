"""Questions with right answers: lm-eval's tasks, the built-in model's own, retrieval, refusals."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from gatenorm.records.evidence.base import SHARES_OF_RIGHT, Evidence, Figure, Item, Protocol
from gatenorm.records.serialization import Value


class TaskItem(Item, frozen=True, kw_only=True, omit_defaults=True):
    """A question, with the log-likelihoods of its choices, or what was answered, by filter."""

    loglikelihoods: tuple[float, ...] = ()
    answers: dict[str, str] = msgspec.field(default_factory=dict)


class TaskProtocol(Protocol, frozen=True, kw_only=True, omit_defaults=True):
    """How a task was asked."""

    harness: str = ""
    task_version: float | str | None = None
    shots: int | None = None
    bos: bool | None = None
    longest_input: int | None = None
    items_cut_from_the_left: int = 0
    filters: tuple[str, ...] = ()
    asks: str = ""
    scoring: str = ""
    beyond_training: str = ""
    distance: str = ""
    worlds: str = ""


# What a task is about: with which others it is judged.
Topic = Literal["tasks", "retrieval", "refusal", "multistep"]
TASKS: Final = "tasks"
RETRIEVAL: Final = "retrieval"
REFUSAL: Final = "refusal"
MULTISTEP: Final = "multistep"


class TaskEvidence(Evidence, frozen=True, kw_only=True):
    """What a task's ``metrics`` were over ``count`` items, and what guessing would give."""

    topic: Topic = TASKS
    protocol: TaskProtocol = TaskProtocol()
    name: str
    metrics: dict[str, Figure]
    count: int
    chance: float | None = None
    items: tuple[TaskItem, ...] = ()

    @property
    def task(self) -> str:
        return self.name

    @property
    def title(self) -> str:
        """What tasks of this kind are, for the title of a table."""
        return self.kind

    @property
    def headline(self) -> str:
        """The metric that speaks for the task; of answers that several filters read, as the first of them reads."""
        filters = self.protocol.filters
        names = (name for share in SHARES_OF_RIGHT for name in (share, *(f"{share}_{read_by}" for read_by in filters)))
        return next((name for name in names if name in self.metrics), "")

    def numbers(self) -> Mapping[str, float]:
        chance = {} if self.chance is None else {"chance": self.chance}
        return numbers_of(self.metrics) | chance | {"items": float(self.count)}


class ZeroShot(TaskEvidence, frozen=True, kw_only=True, tag="gatenorm/zeroshot/1"):
    """One of the seven zero-shot tasks."""


class Harness(TaskEvidence, frozen=True, kw_only=True, tag="gatenorm/harness/1"):
    """A task of lm-eval."""


class Multistep(TaskEvidence, frozen=True, kw_only=True, tag="gatenorm/multistep/1"):
    """Items of several steps, written by code, of one kind."""

    @property
    def title(self) -> str:
        return "items of several steps"


class AverageProtocol(Protocol, frozen=True, kw_only=True, omit_defaults=True):
    """Which metric of which task entered ``average``."""

    average: dict[str, str]
    average_acc: str
    harness: str


class ZeroShotAverage(Evidence, frozen=True, kw_only=True, tag="gatenorm/zeroshot-average/1"):
    """Means over zero-shot tasks: ``average`` of ``acc_norm`` where a task has it, ``average_acc`` of ``acc``."""

    protocol: AverageProtocol
    average: Figure
    average_acc: Figure
    tasks: int
    count: int

    @property
    def metrics(self) -> Mapping[str, Figure]:
        return {"average": self.average, "average_acc": self.average_acc}

    def numbers(self) -> Mapping[str, float]:
        return numbers_of(self.metrics) | {"tasks": float(self.tasks), "items": float(self.count)}


class RetrievalItem(Item, frozen=True, kw_only=True):
    """A question about a fact, ``depth`` of the way back in a context of ``length`` tokens."""

    length: int
    depth: float
    tokens: int


class Cell(Value, frozen=True, kw_only=True):
    """Shares of facts found at one length and depth."""

    length: int
    depth: float
    choice: float
    greedy: float


class RetrievalProtocol(Protocol, frozen=True, kw_only=True, omit_defaults=True):
    """How facts were planted and asked for."""

    asks: str
    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    mean_tokens: dict[str, float]
    items_a_cell: int
    candidates: int
    scoring: str
    chat_template: bool


class Retrieval(Evidence, frozen=True, kw_only=True, tag="gatenorm/retrieval/1"):
    """Facts found again: ``choice`` and ``greedy`` are shares of right answers, ``margin`` is a lead in nats."""

    protocol: RetrievalProtocol
    form: str
    choice: Figure
    greedy: Figure
    margin: Figure
    chance: float
    count: int
    cells: tuple[Cell, ...]
    items: tuple[RetrievalItem, ...] = ()

    @property
    def task(self) -> str:
        return self.form

    @property
    def topic(self) -> Topic:
        """What it is about."""
        return RETRIEVAL

    @property
    def metrics(self) -> Mapping[str, Figure]:
        return {"choice": self.choice, "greedy": self.greedy, "margin": self.margin}

    def numbers(self) -> Mapping[str, float]:
        return numbers_of(self.metrics) | {"chance": self.chance, "items": float(self.count)}


# The metrics of refusal in words.
REFUSAL_METRICS: Mapping[str, str] = {
    "refused_harmful": "harmful requests refused",
    "answered_harmless": "harmless requests answered",
    "system_obeyed": "conflicts decided by the system instruction",
}


class RefusalItem(Item, frozen=True, kw_only=True, omit_defaults=True):
    """A request, and the reply."""

    expect: str
    prompt: str
    system: str = ""
    refused: bool
    reply: str


class RefusalProtocol(Protocol, frozen=True, kw_only=True, omit_defaults=True):
    """How replies were made and judged; ``rule`` is the hash of the rule."""

    chat_template: str
    decoding: str
    new_tokens: int
    rule: str


class Refusal(Evidence, frozen=True, kw_only=True, tag="gatenorm/refusal/1"):
    """Shares of requests that were treated as they should be, by metric; ``counts`` are the requests of each.

    ``refused`` is the share of all that were refused, ``empty`` of those without a reply.
    """

    protocol: RefusalProtocol
    metrics: dict[str, Figure]
    counts: dict[str, int]
    count: int
    refused: float
    empty: float
    items: tuple[RefusalItem, ...] = ()

    def numbers(self) -> Mapping[str, float]:
        return numbers_of(self.metrics) | {"refused": self.refused, "empty": self.empty, "items": float(self.count)}


def numbers_of(metrics: Mapping[str, Figure]) -> dict[str, float]:
    """Every figure by its name, and its standard error, where known, as ``<name>_stderr``."""
    numbers = {}
    for name, figure in metrics.items():
        numbers[name] = figure.value
        if figure.stderr is not None:
            numbers[f"{name}_stderr"] = figure.stderr
    return numbers
