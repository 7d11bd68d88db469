"""What every measurement says of itself, whatever was measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, TypeVar

import msgspec

from gatenorm.records.edit import Edits
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.serialization import Record, Value
from gatenorm.records.table import Row

E = TypeVar("E", bound="Evidence")
# What a task is judged by, the best first.
SHARES_OF_RIGHT = ("acc_norm", "acc", "accuracy", "exact_match", "choice")


class Figure(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A measured number; ``stderr`` is its standard error, ``low`` and ``high`` bound it at 95%, where known."""

    value: float
    stderr: float | None = None
    low: float | None = None
    high: float | None = None


class Data(Value, frozen=True, kw_only=True, omit_defaults=True):
    """What was read: its name, and hashes of the content and of the tokens that a tokenizer made of it."""

    name: str = ""
    sha256: str = ""
    tokens_sha256: str = ""
    split: str = ""
    characters: int | None = None
    items: int | None = None
    seed: int | None = None


class Item(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One window, document or question: its numbers by metric, and how much it counts."""

    id: int | str
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    weight: float = 1  # an int, which is one object everywhere: what equals the default is left out by identity


class Protocol(Value, frozen=True, kw_only=True, omit_defaults=True):
    """How something was measured; every kind of evidence adds its own fields. Empty ones are left out of the JSON."""

    dtype: str = ""
    device: str = ""
    engine: str = ""

    def facts(self) -> dict[str, object]:
        """The fields that say something, for tables."""
        fields = msgspec.structs.asdict(self)
        return {name: value for name, value in fields.items() if value not in ("", None, (), {})}


class Evidence(Record, frozen=True, kw_only=True):
    """One measurement with everything that is needed to repeat it and to doubt it.

    A subclass for each kind of measurement has its figures as fields, a ``protocol`` that says how they were taken, and
    ``items`` where two models are compared item by item; others are not ``comparable``. ``edits`` are those of the
    model, ``versions`` the software.
    """

    comparable: ClassVar[bool] = True
    model: ModelIdentity = ModelIdentity(name="", model_type="", layers=0, config_sha256="", files={})
    edits: Edits = Edits()
    data: Data = Data()
    protocol: Protocol = Protocol()
    seconds: float = 0.0
    versions: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The noun of its schema: ``perplexity`` of ``gatenorm/perplexity/1``."""
        return kind_of(type(self))

    @property
    def task(self) -> str:
        """Which of several measurements of one kind it is, where there are several."""
        return ""

    @property
    def paired_items(self) -> tuple[Item, ...]:
        """The items by which two models can be compared."""
        return getattr(self, "items", ())

    def numbers(self) -> Mapping[str, float]:
        """The numbers of the record by name, the most telling first: for lists that hold any kind of record."""
        return {}

    @property
    def headline(self) -> str:
        """The number that speaks for a task: its share of right answers; empty where there is none."""
        return next((name for name in SHARES_OF_RIGHT if name in self.numbers()), "")

    def rows(self) -> Iterator[Row]:
        """A row for each figure, under the names that JSON has for them."""
        for name, value in self.numbers().items():
            yield {
                "model": self.model.name,
                "measured": self.kind,
                "task": self.task,
                "data": self.read,
                "figure": name,
                "value": value,
            }

    @property
    def read(self) -> str:
        """What the model read, for tables."""
        return self.data.name

    def known(self, *names: str) -> dict[str, float]:
        """The numbers in these fields, as far as they are known."""
        return {name: float(value) for name in names if (value := getattr(self, name)) is not None}

    def facts(self) -> Mapping[str, object]:
        """The protocol's fields that say something."""
        return self.protocol.facts()

    def same_task(self, other: Evidence) -> bool:
        """Whether both are about the same task on the same data, and can be compared item by item."""
        if type(self) is not type(other) or not self.comparable:
            return False
        mine, theirs = ((e.task, e.data.sha256 or e.data.name) for e in (self, other))
        return mine == theirs


def kind_of(kind: type[Evidence]) -> str:
    """The noun of a kind of evidence: ``perplexity``."""
    return str(kind.__struct_config__.tag).split("/")[1]


def of_type(records: Iterable[Evidence], kind: type[E]) -> tuple[E, ...]:
    """The records of one kind, in their order."""
    return tuple(record for record in records if isinstance(record, kind))
