"""Records of a variant and of the unpruned model, paired where they are about the same task and data."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gatenorm.evaluation.statistics.paired_statistics import compare, median_interval
from gatenorm.evaluation.statistics.zeroshot_average import averaged
from gatenorm.records.evidence import Change, Comparison, Evidence, Perplexity, Speed, of_type

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
        return counterpart(self.before, record)

    def change(self, record: Evidence, metric: str) -> Change | None:
        """How a metric changed, item by item, where the items could be paired."""
        comparison = next((c for c in self.changes if c.about(record)), None)
        return comparison.changes.get(metric) if comparison else None


def counterpart(before: Iterable[Evidence], record: E) -> E | None:
    """The record among ``before`` of the same task on the same data."""
    return next((e for e in of_type(before, type(record)) if e.same_task(record)), None)


def findings(before: Sequence[Evidence], after: Sequence[Evidence]) -> Findings:
    """Pairs every record of a variant with the unpruned model's of the same task and data, item by item.

    An average over zero-shot tasks is added to the records, and how it changed to the changes.
    """
    changes = [
        change
        for e in after
        if (partner := counterpart(before, e)) is not None and (change := compare(partner, e)) is not None
    ]
    first, second, changed = averaged(before, after, changes)
    return Findings((*before, *first), (*after, *second), changed)


def loss_change(before: Perplexity, after: Perplexity) -> Change:
    """How much more loss ``after`` costs in nats a token, with its interval where the windows can be paired."""
    paired = compare(before, after)
    change = None if paired is None else paired.changes.get("nll")
    return change or Change(difference=after.nll - before.nll, items=0)


@dataclass(frozen=True)
class RequestSpeedup:
    """Time of a request (prompt and new tokens), unpruned over pruned: the median over the rounds and its interval."""

    before: Speed
    after: Speed
    value: float
    low: float | None
    high: float | None
    rounds: int


def request_speedups(before: Sequence[Evidence], after: Sequence[Evidence]) -> list[RequestSpeedup]:
    """One for every timing of ``after`` that was taken in turns with one of the unpruned model."""
    speedups = []
    for record in of_type(after, Speed):
        partner = _unpruned(before, record) if record.measured else None
        if partner is not None:
            ratios = [b / a for b, a in zip(partner.request_seconds, record.request_seconds, strict=True)]
            low, high = median_interval(ratios) or (None, None)
            speedups.append(RequestSpeedup(partner, record, statistics.median(ratios), low, high, len(ratios)))
    return speedups


def _unpruned(before: Sequence[Evidence], speed: Speed) -> Speed | None:
    """The unpruned model's timing that was taken in turns with this one."""

    def taken(one: Speed) -> tuple[str, int, int, int, str]:
        at = one.protocol
        return at.engine, at.prompt_tokens, at.batch, at.new_tokens, at.order

    return next((e for e in of_type(before, Speed) if e.measured and taken(e) == taken(speed)), None)
