"""The figures that gates are held against, out of a variant's records and its baseline's."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatenorm.evaluation.statistics.paired_statistics import compare, from_counts, median_interval
from gatenorm.evaluation.tasks.refusal import METRICS
from gatenorm.evaluation.tasks.zeroshot import average, average_difference
from gatenorm.records.evidence import (
    Comparison,
    Evidence,
    Measurement,
    Perplexity,
    Refusal,
    Retrieval,
    Speed,
    TaskEvidence,
    Workload,
    WorldTask,
    ZeroShot,
    ZeroShotAverage,
    kind_of,
    of_type,
)


@dataclass(frozen=True)
class Reading:
    """A figure, its interval where one is known, and where it comes from in a few words.

    ``too_few`` says that it varies from item to item and rests on too few for an interval: how far it could lie off is
    unknown. ``by_chance`` says that the unpruned model is no better than guessing, so that nothing could get lost.
    """

    value: float
    low: float | None = None
    high: float | None = None
    detail: str = ""
    too_few: bool = False
    by_chance: bool = False


@dataclass(frozen=True)
class Findings:
    """All that was measured of a variant (``after``) and of the unpruned model (``before``), paired where it can be."""

    before: tuple[Evidence, ...]
    after: tuple[Evidence, ...]
    changes: tuple[Comparison, ...]

    def changes_of(self, kind: type[Evidence]) -> list[Comparison]:
        """What changed in one kind of measurement."""
        return [change for change in self.changes if change.of == kind_of(kind)]


# Measurements with a share of right answers, and what guessing would give.
Scored = TaskEvidence | Retrieval
Find = Callable[[Findings], Reading | Sequence[Reading] | None]
# So many standard errors above chance a model has shown that it does not guess.
_SURE = 2.0


def findings(before: Sequence[Evidence], after: Sequence[Evidence]) -> Findings:
    """Pairs every record of a variant with the unpruned model's of the same task and data, item by item.

    An average over zero-shot tasks is added to the records, and how it changed to the changes.
    """
    averages = [average(records) for records in (before, after)]
    changes = [
        change
        for e in after
        if (partner := next((b for b in before if b.same_task(e)), None)) is not None
        and (change := compare(partner, e)) is not None
    ]
    if averages[0] is not None and averages[1] is not None:
        change = average_difference(changes, averages[1])
        changes += [change] if change is not None else []
    both = [(*records, *([found] if found else [])) for records, found in zip((before, after), averages, strict=True)]
    return Findings(tuple(both[0]), tuple(both[1]), tuple(changes))


def perplexity_rise(found: Findings) -> Sequence[Reading]:
    """``100 (exp(d) - 1)`` for the paired difference ``d`` of the losses, of every text."""
    return [
        Reading(
            _percent(nll.difference),
            None if nll.low is None else _percent(nll.low),
            None if nll.high is None else _percent(nll.high),
            f"on {change.data.name}",
            too_few=nll.low is None,
        )
        for change in found.changes_of(Perplexity)
        if (nll := change.changes.get("nll")) is not None
    ]


def task_drop(found: Findings) -> Reading | None:
    """Points by which the average over the tasks fell: the zero-shot average, or that of the built-in model's tasks."""
    for change in found.changes_of(ZeroShotAverage):
        mean = change.changes["average"]
        told, guessed = _average_guessed(found)
        detail = f"average of {change.data.name}{told}"
        ends = [None if end is None else _lost(end) for end in (mean.high, mean.low)]
        return Reading(_lost(mean.difference), ends[0], ends[1], detail, by_chance=guessed)
    single = found.changes_of(ZeroShot)
    if len(single) == 1:
        return _drop(found, ZeroShot, single, "acc_norm" if "acc_norm" in single[0].changes else "acc")
    own = [c for c in found.changes_of(WorldTask) if not c.name.startswith(("recall", "refusal"))]
    return _drop(found, WorldTask, own, "accuracy")


def refusal_flips(found: Findings) -> Reading | None:
    """Items whose reply was right by the rule before and is not after, whatever was expected of it."""
    changes = found.changes_of(Refusal)
    metrics: tuple[str, ...] = tuple(METRICS.values())
    if not changes:
        changes = [c for c in found.changes_of(WorldTask) if c.name.startswith("refusal")]
        metrics = ("accuracy",)
    if not changes:
        return None
    own = [c.changes[m] for c in changes for m in metrics if m in c.changes]
    return Reading(float(sum(c.lost or 0 for c in own)), detail=f"of {sum(c.items for c in own)} items")


def retrieval_loss(found: Findings) -> Reading | None:
    """Points by which the share of facts found among the candidates fell."""
    changes = found.changes_of(Retrieval)
    if changes:
        return _drop(found, Retrieval, changes, "choice")
    own = [c for c in found.changes_of(WorldTask) if c.name.startswith("recall")]
    return _drop(found, WorldTask, own, "accuracy")


def domain_divergence(found: Findings) -> Reading | None:
    """Mean divergence in nats, with the interval of its record; of fewer than two items there is none."""
    for evidence in of_type(found.after, Workload):
        kl = evidence.kl
        return Reading(kl.value, kl.low, kl.high, f"{evidence.count} items", too_few=kl.low is None)
    return None


def speed_up(found: Findings) -> Sequence[Reading]:
    """Time of a request (prompt and new tokens), unpruned over pruned, by round: the median and its interval.

    Taken at the longest prompt and the smallest batch, in every engine.
    """
    readings = []
    timed = of_type(found.after, Speed)
    for engine in dict.fromkeys(e.protocol.engine for e in timed):
        of_engine = [e for e in timed if e.protocol.engine == engine]
        pairs = [(b, e) for e in of_engine if e.measured and (b := unpruned(found.before, e)) is not None]
        if not pairs:
            continue
        before, after = max(pairs, key=lambda p: (p[1].protocol.prompt_tokens, -p[1].protocol.batch))
        ratios = [b / a for b, a in zip(before.request_seconds, after.request_seconds, strict=True)]
        case = f"{after.protocol.prompt_tokens:,} + {after.protocol.new_tokens} tokens"
        low, high = median_interval(ratios) or (None, None)
        detail = f"{engine}, {case}, median of {len(ratios)} rounds"
        readings.append(Reading(statistics.median(ratios), low, high, detail, too_few=low is None))
    return readings


def verify_faults(found: Findings) -> Reading | None:
    """How many faults ``verify`` found in the exports."""
    checked = [e for e in of_type(found.after, Measurement) if e.noun == "verify"]
    if not checked:
        return None
    faults = [fault for e in checked for fault in e.protocol.get("faults", ())]
    return Reading(float(len(faults)), detail="; ".join(faults) or "every export computes the same")


def unpruned(before: Sequence[Evidence], speed: Speed) -> Speed | None:
    """The unpruned model's timing that was taken in turns with this one."""

    def taken(one: Speed) -> tuple[str, int, int, int, str]:
        at = one.protocol
        return at.engine, at.prompt_tokens, at.batch, at.new_tokens, at.order

    return next((e for e in of_type(before, Speed) if e.measured and taken(e) == taken(speed)), None)


def _drop(findings: Findings, kind: type[Scored], changes: Sequence[Comparison], metric: str) -> Reading | None:
    """Points by which a share fell, all items taken together: they are paired, and weigh alike."""
    found = [c for c in changes if metric in c.changes]
    if not found:
        return None
    own = [c.changes[metric] for c in found]
    n, won, lost = (sum(counts) for counts in zip(*((c.items, c.won or 0, c.lost or 0) for c in own), strict=True))
    paired = from_counts(n, won, lost)
    tasks = {c.name for c in found}
    told, guessed = _guessed([e for e in of_type(findings.before, kind) if e.task in tasks], metric)
    detail = f"{lost} of {n} items lost, {won} won{told}"
    return Reading(_lost(paired.difference), _lost(paired.high), _lost(paired.low), detail, by_chance=guessed)


def _guessed(own: Sequence[Scored], metric: str) -> tuple[str, bool]:
    """Whether the unpruned model is less than two standard errors above chance, and its share beside chance in words.

    Over several tasks both are means over the items, with the error ``sqrt(sum (n e)^2) / sum n``. Where a record knows
    no chance, nothing is said; where it knows no error, as of a single item, the model has shown nothing.
    """
    chances = [e.chance for e in own if e.chance is not None]
    if not own or len(chances) < len(own):
        return "", False
    parts = [e.count / sum(e.count for e in own) for e in own]
    figures = [e.metrics[metric] for e in own]
    share = math.fsum(p * f.value for p, f in zip(parts, figures, strict=True))
    errors = [math.inf if f.stderr is None else f.stderr for f in figures]
    error = math.hypot(*(p * one for p, one in zip(parts, errors, strict=True)))
    return _told_of_chance(share, error, math.fsum(p * c for p, c in zip(parts, chances, strict=True)))


def _average_guessed(found: Findings) -> tuple[str, bool]:
    """As :func:`_guessed`, of the average, whose chance is the mean over the tasks."""
    own = of_type(found.before, ZeroShot)
    chances = [e.chance for e in own if e.chance is not None]
    if not own or len(chances) < len(own):
        return "", False
    (mean,) = of_type(found.before, ZeroShotAverage)
    error = math.inf if mean.average.stderr is None else mean.average.stderr
    return _told_of_chance(mean.average.value, error, math.fsum(chances) / len(own))


def _told_of_chance(share: float, error: float, chance: float) -> tuple[str, bool]:
    guessed = share - chance < _SURE * error or share <= chance
    return (f"; unpruned {share:.1%} right, chance {chance:.1%}" if guessed else ""), guessed


def _lost(difference: float) -> float:
    """Points lost, from a difference of shares; never a negative zero, which people would read."""
    return 0.0 - 100 * difference


def _percent(difference: float) -> float:
    return 100 * math.expm1(min(difference, 700.0))
