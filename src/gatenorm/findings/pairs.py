"""Records of a variant and of the unpruned model, paired where they are about the same task and data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gatenorm.evaluation.statistics.paired_statistics import compare
from gatenorm.evaluation.statistics.zeroshot_average import averaged
from gatenorm.records.evidence import Change, Comparison, Evidence, of_type

E = TypeVar("E", bound=Evidence)


@dataclass(frozen=True)
class Findings:
    """All that was measured of a variant (``after``) and of the unpruned model (``before``), and how it changed."""

    before: tuple[Evidence, ...]
    after: tuple[Evidence, ...]
    changes: tuple[Comparison, ...]

    @classmethod
    def of_records(cls, before: Iterable[Evidence], variant: Iterable[Evidence]) -> Findings:
        """The findings in records that hold comparisons already, as those of an audit do."""
        own = tuple(variant)
        changes = of_type(own, Comparison)
        return cls(tuple(before), tuple(e for e in own if not isinstance(e, Comparison)), changes)

    def counterpart(self, record: E) -> E | None:
        """The unpruned model's record of the same task on the same data."""
        return next((e for e in of_type(self.before, type(record)) if e.same_task(record)), None)

    def change(self, record: Evidence, metric: str) -> Change | None:
        """How a metric changed, item by item, where the items could be paired."""
        comparison = next((c for c in self.changes if c.about(record)), None)
        return comparison.changes.get(metric) if comparison else None


def findings(before: Sequence[Evidence], after: Sequence[Evidence]) -> Findings:
    """Pairs every record of a variant with the unpruned model's of the same task and data, item by item.

    An average over zero-shot tasks is added to the records, and how it changed to the changes.
    """
    changes = [
        change
        for e in after
        if (partner := next((b for b in before if b.same_task(e)), None)) is not None
        and (change := compare(partner, e)) is not None
    ]
    first, second, changed = averaged(before, after, changes)
    return Findings((*before, *first), (*after, *second), changed)
