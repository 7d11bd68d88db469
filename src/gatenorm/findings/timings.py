"""Whole requests beside the unpruned model's, round by round."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gatenorm.evaluation.statistics.paired_statistics import median_interval
from gatenorm.records.evidence import Evidence, Speed, of_type


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
