"""The figures that gates are held against, out of a variant's findings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gatenorm.evaluation.core.task import Metric, Task
from gatenorm.findings import (
    Change,
    Findings,
    RequestSpeedup,
    average,
    multistep,
    of_metric,
    perplexities,
    pooled,
    refusals,
    request_speedups,
    retrieval,
)
from gatenorm.records.evidence import Verification, of_type


@dataclass(frozen=True)
class GateValue:
    """A figure, its interval where one is known, and where it comes from in a few words.

    ``too_few`` says that it varies from item to item and rests on too few for an interval. ``by_chance`` says that the
    unpruned model is no better than guessing, so that nothing could get lost. ``items`` is how many it rests on, where
    that is known.
    """

    value: float
    low: float | None = None
    high: float | None = None
    detail: str = ""
    too_few: bool = False
    by_chance: bool = False
    items: int | None = None


Find = Callable[[Findings], GateValue | Sequence[GateValue] | None]


def perplexity_rise(findings: Findings) -> Sequence[GateValue]:
    """The rise in percent on every text, from paired losses."""
    return [
        GateValue(
            100 * change.difference,
            None if change.low is None else 100 * change.low,
            None if change.high is None else 100 * change.high,
            f"on {change.name}",
            too_few=change.low is None,
        )
        for change in perplexities(findings)
        if change.paired
    ]


def task_drop(findings: Findings) -> GateValue | None:
    """Points by which the average over the general tasks fell."""
    return _drop(average(findings))


def retrieval_loss(findings: Findings) -> GateValue | None:
    """Points by which the share of facts found among the candidates fell."""
    return _drop(pooled([change for change in retrieval(findings) if change.paired], "forms"))


def multistep_loss(findings: Findings) -> GateValue | None:
    """Points by which the share of items of several steps that were right fell, all kinds together."""
    return _drop(pooled([change for change in multistep(findings) if change.paired], "kinds"))


def refusal_flips(findings: Findings) -> GateValue | None:
    """Items whose reply was right by the rule before and is not after, whatever was expected of it."""
    own = [change for change in refusals(findings) if change.paired]
    if not own:
        return None
    items = sum(c.items for c in own)
    return GateValue(float(sum(c.lost or 0 for c in own)), detail=f"of {items} items", items=items)


def speed_up(findings: Findings) -> Sequence[GateValue]:
    """The speed-up of a whole request that speed is judged by, in every engine."""
    return [speed_value(speedup) for speedup in judged_requests(request_speedups(findings.before, findings.after))]


def judged_requests(timed: Sequence[RequestSpeedup]) -> list[RequestSpeedup]:
    """The request that speed is judged by in each engine: the longest prompt in the smallest batch."""
    longest: dict[str, RequestSpeedup] = {}
    for speedup in sorted(timed, key=lambda s: (s.after.protocol.prompt_tokens, -s.after.protocol.batch)):
        longest[speedup.after.protocol.engine] = speedup
    return list(longest.values())


def speed_value(speedup: RequestSpeedup) -> GateValue:
    """One speed-up as a gate is held against it."""
    at = speedup.after.protocol
    detail = f"{at.engine}, {at.prompt_tokens:,} + {at.new_tokens} tokens, median of {speedup.rounds} rounds"
    return GateValue(speedup.value, speedup.low, speedup.high, detail, too_few=speedup.low is None)


def verify_faults(findings: Findings) -> GateValue | None:
    """How many faults ``verify`` found in the exports."""
    checked = of_type(findings.after, Verification)
    if not checked:
        return None
    faults = [fault for record in checked for fault in record.faults]
    return GateValue(float(len(faults)), detail="; ".join(faults) or "every export computes the same")


def finder(task: Task, metric: Metric) -> Find:
    """How the figures are found that an evaluation is judged by."""
    if task.name in FINDERS:
        return FINDERS[task.name]
    if task.compares:
        return compared(task.name, metric.name)
    return worsening(task.name, metric.name, metric.more_is_better)


# Evaluations of which more than one number of a record counts, or those of a model's own language too. Of these the
# declared number is not read.
FINDERS: Mapping[str, Find] = {
    "perplexity": perplexity_rise,
    "zeroshot": task_drop,
    "refusal": refusal_flips,
    "retrieval": retrieval_loss,
    "multistep": multistep_loss,
}


def compared(kind: str, metric: str) -> Find:
    """A number of records that compare two models already; ``METRIC_low`` and ``METRIC_high`` are its interval.

    A record with ``items`` and without an interval rests on too few of them.
    """

    def find(findings: Findings) -> Sequence[GateValue]:
        values = []
        for record in (e for e in findings.after if e.kind == kind):
            numbers, items = record.numbers(), len(getattr(record, "items", ()))
            if metric in numbers:
                low, high = (numbers.get(f"{metric}_{end}") for end in ("low", "high"))
                detail = f"on {record.task or record.data.name or kind}" + (f", {items} items" if items else "")
                too_few = bool(items) and low is None
                values.append(GateValue(numbers[metric], low, high, detail, too_few, items=items or None))
        return values

    return find


def worsening(kind: str, metric: str, more_is_better: bool) -> Find:
    """By how much a number of any evaluation got worse, on each of its data."""

    def find(findings: Findings) -> Sequence[GateValue]:
        sign = -1.0 if more_is_better else 1.0
        values = []
        for change in of_metric(findings, kind, metric):
            ends = [None if end is None else 0.0 + sign * end for end in (change.low, change.high)]
            low, high = reversed(ends) if more_is_better else ends
            detail = f"{change.name}: {change.before:.4g}, now {change.after:.4g}"
            too_few = change.paired and low is None
            values.append(GateValue(0.0 + sign * change.difference, low, high, detail, too_few=too_few))
        return values

    return find


def _drop(change: Change | None) -> GateValue | None:
    """Points by which a share fell; never a negative zero, which people would read."""
    if change is None or not change.paired:
        return None
    low, high = (None if end is None else 0.0 - 100 * end for end in (change.high, change.low))
    counted = change.won is not None
    detail = f"{change.lost} of {change.items} items lost, {change.won} won" if counted else f"average of {change.name}"
    if change.guessed:
        detail += f"; unpruned {change.before:.1%} right, chance {change.chance:.1%}"
    return GateValue(0.0 - 100 * change.difference, low, high, detail, by_chance=change.guessed, items=change.items)
