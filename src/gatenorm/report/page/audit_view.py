"""What was measured of a variant beside the unpruned model, read out of an audit's evidence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gatenorm.records.audit import CANDIDATE, RECOVERED, Audit, AuditedVariant
from gatenorm.records.evidence import Change as Paired
from gatenorm.records.evidence import (
    Comparison,
    Evidence,
    Perplexity,
    Refusal,
    Retrieval,
    Speed,
    TaskEvidence,
    Workload,
    WorldTask,
    ZeroShotAverage,
    kind_of,
    of_type,
)

# Of the built-in model's tasks: those that ask over a distance, and the one about what is forbidden.
_FAR, _REFUSAL = "recall", "refusal"


E = TypeVar("E", bound=Evidence)


@dataclass(frozen=True)
class Change:
    """One figure before and after the removal; ``low`` and ``high`` bound the difference at 95%, where known.

    ``won`` and ``lost`` count the items that turned right and wrong.
    """

    name: str
    before: float
    after: float
    difference: float
    low: float | None = None
    high: float | None = None
    items: int = 0
    chance: float | None = None
    won: int | None = None
    lost: int | None = None
    metric: str = ""


def title(variant: AuditedVariant) -> str:
    """What a variant is called in charts and lists: recovered ones are marked."""
    return f"{variant.name} (recovered)" if variant.state == RECOVERED else variant.name


def tags(variant: AuditedVariant) -> tuple[str, ...]:
    """The marks that a variant bears wherever it is named: what was recovered is another model."""
    return ("recovered",) if variant.state == RECOVERED else ()


def candidates(audit: Audit) -> list[AuditedVariant]:
    """The variants that could be taken, the chosen one first."""
    own = [v for v in audit.variants if v.role == CANDIDATE]
    return sorted(own, key=lambda v: v.name != audit.chosen)


def comparisons(audit: Audit) -> list[AuditedVariant]:
    """The variants that are there to be beaten."""
    return [v for v in audit.variants if v.role != CANDIDATE]


def chosen(audit: Audit) -> AuditedVariant | None:
    """The variant that the verdict recommends."""
    return next((v for v in audit.variants if v.name == audit.chosen), None)


def counterpart(audit: Audit, record: E) -> E | None:
    """The unpruned model's record of the same task on the same data."""
    return next((e for e in of_type(audit.baseline, type(record)) if e.same_task(record)), None)


def perplexities(audit: Audit, variant: AuditedVariant) -> list[Change]:
    """Perplexity text by text; ``difference`` is the rise as a share, its interval from the paired losses."""
    found = []
    for record in of_type(variant.evidence, Perplexity):
        base = counterpart(audit, record)
        if base is None:
            continue
        paired = _paired(variant, record, "nll")
        ends = [paired.low, paired.high] if paired else [None, None]
        low, high = (None if end is None else _rise(end) for end in ends)
        rise = record.perplexity / base.perplexity - 1
        name = record.data.name or "text"
        found.append(Change(name, base.perplexity, record.perplexity, rise, low, high, record.tokens))
    return found


def tasks(audit: Audit, variant: AuditedVariant) -> list[Change]:
    """General tasks one by one, as shares of right answers."""
    own = [e for e in of_type(variant.evidence, TaskEvidence) if not _is(e, _FAR) and not _is(e, _REFUSAL)]
    return _changes(audit, variant, own)


def average(audit: Audit, variant: AuditedVariant) -> Change | None:
    """The mean over the general tasks: the harness's average where there is one, else that of all that was asked."""
    record = next(iter(of_type(variant.evidence, ZeroShotAverage)), None)
    base = next(iter(of_type(audit.baseline, ZeroShotAverage)), None)
    if record is not None and base is not None:
        paired = next((e for e in of_type(variant.evidence, Comparison) if e.of == kind_of(ZeroShotAverage)), None)
        change = paired.changes["average"] if paired else None
        before, after = base.average.value, record.average.value
        ends = (change.low, change.high) if change else (None, None)
        return Change(f"zero-shot, {record.tasks} tasks", before, after, after - before, *ends)
    return mean(tasks(audit, variant), "tasks")


def retrieval(audit: Audit, variant: AuditedVariant) -> list[Change]:
    """Questions whose answer was said far back, form by form."""
    own: list[TaskEvidence | Retrieval] = [*of_type(variant.evidence, Retrieval)]
    own += [e for e in of_type(variant.evidence, WorldTask) if _is(e, _FAR)]
    return _changes(audit, variant, own)


def mean(changes: Sequence[Change], what: str) -> Change | None:
    """The mean of some changes; their intervals are combined as those of independent items."""
    if not changes:
        return None
    n = len(changes)
    difference = math.fsum(c.difference for c in changes) / n
    halves = [(c.high - c.low) / 2 for c in changes if c.low is not None and c.high is not None]
    half = math.sqrt(math.fsum(h * h for h in halves)) / n if len(halves) == n else None
    return Change(
        name=what if n == 1 else f"mean of {n} {what}",
        before=math.fsum(c.before for c in changes) / n,
        after=math.fsum(c.after for c in changes) / n,
        difference=difference,
        low=None if half is None else difference - half,
        high=None if half is None else difference + half,
        items=sum(c.items for c in changes),
        won=sum(c.won or 0 for c in changes),
        lost=sum(c.lost or 0 for c in changes),
    )


def refusals(audit: Audit, variant: AuditedVariant) -> list[Change]:
    """What is refused and answered as it should be, kind by kind."""
    found = []
    for record in of_type(variant.evidence, Refusal):
        base = counterpart(audit, record)
        for metric, figure in record.metrics.items():
            if base is not None and metric in base.metrics:
                before, count = base.metrics[metric].value, record.counts[metric]
                found.append(_change(metric, metric, before, figure.value, count, _paired(variant, record, metric)))
    return found + _changes(audit, variant, [e for e in of_type(variant.evidence, WorldTask) if _is(e, _REFUSAL)])


def flips(changes: Iterable[Change]) -> tuple[int, int] | None:
    """How many requests turned, and how many were asked; ``None`` where none was compared."""
    own = [c for c in changes if c.won is not None and c.lost is not None]
    return (sum((c.won or 0) + (c.lost or 0) for c in own), sum(c.items for c in own)) if own else None


def domain(variant: AuditedVariant) -> Workload | None:
    """How closely the variant follows the unpruned model on the user's own workload."""
    return next(iter(of_type(variant.evidence, Workload)), None)


def speeds(variant: AuditedVariant) -> list[Speed]:
    """What was timed against the unpruned model, the longest prompt last."""
    own = [e for e in of_type(variant.evidence, Speed) if e.compared]
    return sorted(own, key=lambda s: (s.protocol.prompt_tokens, -s.protocol.batch))


def telling_speeds(audit: Audit) -> tuple[str, int, int] | None:
    """The engine, length and batch that the first screen quotes: the longest prompt of the engine timed first."""
    timed = [s for v in audit.variants for s in speeds(v)]
    if not timed:
        return None
    engine = timed[0].protocol.engine
    own = (s for s in timed if s.protocol.engine == engine)
    return at(max(own, key=lambda s: (s.protocol.prompt_tokens, -s.protocol.batch)))


def at(speed: Speed) -> tuple[str, int, int]:
    """The engine, prompt length and batch of a timing."""
    return speed.protocol.engine, speed.protocol.prompt_tokens, speed.protocol.batch


def told_speed(audit: Audit, variant: AuditedVariant) -> Speed | None:
    """This variant's timing at what :func:`telling_speeds` names."""
    quoted = telling_speeds(audit)
    return next((s for s in speeds(variant) if at(s) == quoted), None)


def engines(audit: Audit) -> list[str]:
    """The engines that anything was timed in."""
    return list(dict.fromkeys(s.protocol.engine for v in audit.variants for s in speeds(v)))


def _changes(audit: Audit, variant: AuditedVariant, records: Sequence[TaskEvidence | Retrieval]) -> list[Change]:
    found = []
    for record in records:
        base, metric = counterpart(audit, record), record.headline
        if base is not None and metric in base.metrics and metric in record.metrics:
            before, after = base.metrics[metric].value, record.metrics[metric].value
            paired = _paired(variant, record, metric)
            found.append(_change(record.task, metric, before, after, record.count, paired, record.chance))
    return found


def _change(
    name: str, metric: str, before: float, after: float, items: int, paired: Paired | None, chance: float | None = None
) -> Change:
    return Change(
        name=name,
        before=before,
        after=after,
        difference=after - before,
        low=paired.low if paired else None,
        high=paired.high if paired else None,
        items=paired.items if paired else items,
        chance=chance,
        won=paired.won if paired else None,
        lost=paired.lost if paired else None,
        metric=metric,
    )


def _paired(variant: AuditedVariant, record: Evidence, metric: str) -> Paired | None:
    """How a metric changed, item by item, where the items could be paired."""
    comparison = next((e for e in of_type(variant.evidence, Comparison) if e.about(record)), None)
    return comparison.changes.get(metric) if comparison else None


def _is(record: TaskEvidence, topic: str) -> bool:
    return isinstance(record, WorldTask) and record.name.startswith(topic)


def _rise(nats: float) -> float:
    return math.exp(min(nats, 700)) - 1
