"""What changed between two models on the same items."""

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

from gatenorm.records.edit import Edits
from gatenorm.records.evidence.base import Evidence, Item
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.serialization import Value

AnItem = TypeVar("AnItem", bound=Item)


class Change(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A mean difference, model minus baseline, over paired items; ``low`` and ``high`` bound it at 95%, where known.

    For shares, ``won`` and ``lost`` count the items that turned right and wrong, and ``p`` is McNemar's exact
    two-sided probability of a split at least that uneven.
    """

    difference: float
    items: int
    low: float | None = None
    high: float | None = None
    won: int | None = None
    lost: int | None = None
    p: float | None = None


class ChangedItem(Value, Generic[AnItem], frozen=True, kw_only=True):
    """An item whose answer turned, in which metrics, and what both models made of it."""

    id: int | str
    changed: tuple[str, ...]
    before: AnItem
    after: AnItem


class Comparison(Evidence, frozen=True, kw_only=True, tag="gatenorm/comparison/1"):
    """The changes by metric of a measurement of kind ``of``; ``items`` are those that turned right or wrong.

    They are items of that kind of measurement, as which :func:`evidence_from_json` reads them.
    """

    of: str
    name: str = ""
    baseline: ModelIdentity
    baseline_edits: Edits
    interval: str
    changes: dict[str, Change]
    items: tuple[ChangedItem[Item], ...] = ()

    @property
    def task(self) -> str:
        return self.name

    @property
    def paired_items(self) -> tuple[()]:
        """None: the record itself is the comparison."""
        return ()

    def numbers(self) -> Mapping[str, float]:
        figures: dict[str, float] = {}
        for name, change in self.changes.items():
            known = {k: v for k, v in msgspec.structs.asdict(change).items() if v is not None}
            figures |= {f"{name}_{what}": float(value) for what, value in known.items()}
        return figures

    def about(self, record: Evidence) -> bool:
        """Whether it compares this record with the baseline's."""
        return (self.of, self.task, self.data.sha256) == (record.kind, record.task, record.data.sha256)
