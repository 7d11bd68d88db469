"""Figures before and after a removal: perplexity, tasks, retrieval, items of several steps, refusals, workload."""

import math
from collections.abc import Sequence

from msgspec import structs

from gatenorm.evaluation.statistics.paired_statistics import from_counts, mean_change
from gatenorm.findings.pairs import Findings
from gatenorm.records.evidence import (
    MULTISTEP,
    REFUSAL,
    RETRIEVAL,
    TASKS,
    Change as Paired,
    Figure,
    Perplexity,
    Refusal,
    Retrieval,
    TaskEvidence,
    Workload,
    ZeroShot,
    ZeroShotAverage,
    of_type,
)

# So many standard errors above chance a model has shown that it does not guess.
_SURE = 2.0


class Change(Paired, frozen=True, kw_only=True):
    """One figure before and after the removal; ``low`` and ``high`` bound the difference at 95%, where known.

    ``paired`` says that the items of both models could be compared one by one; for shares, ``won`` and ``lost`` count
    those that turned right and wrong. ``chance`` is what guessing would give, ``stderr`` the error of ``before``,
    ``tokens`` how many a perplexity rests on.
    """

    name: str
    before: float
    after: float
    chance: float | None = None
    metric: str = ""
    stderr: float | None = None
    paired: bool = False
    tokens: int | None = None

    @property
    def guessed(self) -> bool:
        """Whether the unpruned model has not shown that it does better than chance, so that nothing could get lost."""
        return within_chance(Figure(value=self.before, stderr=self.stderr), self.chance)


def within_chance(share: Figure, chance: float | None) -> bool:
    """Whether a share is less than two standard errors above chance.

    Without a known chance nothing is said; without a known error, as of a single item, the model has shown nothing.
    """
    error = math.inf if share.stderr is None else share.stderr
    return chance is not None and (share.value - chance < _SURE * error or share.value <= chance)


def perplexities(findings: Findings) -> list[Change]:
    """Perplexity text by text; ``difference`` is the rise as a share.

    With the paired difference ``d`` of the losses the rise is ``exp(d) - 1``, which is ``after / before - 1`` too; its
    interval is that of ``d``.
    """
    changes = []
    for record in of_type(findings.after, Perplexity):
        base, paired = findings.counterpart(record), findings.change(record, "nll")
        if base is None:
            continue
        ends = (paired.low, paired.high) if paired else (None, None)
        low, high = (None if end is None else rise(end) for end in ends)
        changes.append(
            Change(
                name=record.data.name or "text",
                before=base.perplexity,
                after=record.perplexity,
                difference=rise(paired.difference) if paired else record.perplexity / base.perplexity - 1,
                low=low,
                high=high,
                items=paired.items if paired else 0,
                tokens=record.tokens,
                metric="perplexity",
                paired=paired is not None,
            )
        )
    return changes


def tasks(findings: Findings) -> list[Change]:
    """General tasks one by one, as shares of right answers."""
    return _shares(findings, TASKS)


def retrieval(findings: Findings) -> list[Change]:
    """Questions whose answer was said far back, form by form."""
    return _shares(findings, RETRIEVAL)


def multistep(findings: Findings) -> list[Change]:
    """Items of several steps, kind by kind."""
    return _shares(findings, MULTISTEP)


def refusals(findings: Findings) -> list[Change]:
    """What is refused and answered as it should be, kind by kind."""
    changes = []
    for record in of_type(findings.after, Refusal):
        base = findings.counterpart(record)
        for metric, figure in record.metrics.items():
            if base is not None and metric in base.metrics:
                paired = findings.change(record, metric)
                changes.append(_change(metric, metric, base.metrics[metric], figure, record.counts[metric], paired))
    return changes + _shares(findings, REFUSAL)


def average(findings: Findings) -> Change | None:
    """The zero-shot average where there is one, else all items of all general tasks taken together."""
    record = next(iter(of_type(findings.after, ZeroShotAverage)), None)
    base = next(iter(of_type(findings.before, ZeroShotAverage)), None)
    if record is None or base is None:
        return pooled(tasks(findings), "tasks")
    chances = [e.chance for e in of_type(findings.before, ZeroShot)]
    known = [chance for chance in chances if chance is not None]
    return _change(
        record.data.name,
        "average",
        base.average,
        record.average,
        record.count,
        findings.change(record, "average"),
        math.fsum(known) / len(known) if known and len(known) == len(chances) else None,
    )


def divergence(findings: Findings) -> Workload | None:
    """How closely the variant follows the unpruned model on the user's own workload."""
    return next(iter(of_type(findings.after, Workload)), None)


def of_metric(findings: Findings, kind: str, metric: str) -> list[Change]:
    """How one number of the records of a kind changed, whatever it is."""
    changes = []
    for record in (e for e in findings.after if e.kind == kind):
        base, after = findings.counterpart(record), record.numbers().get(metric)
        before = None if base is None else base.numbers().get(metric)
        if before is not None and after is not None:
            paired = findings.change(record, metric)
            name, items = record.task or record.data.name or kind, len(record.paired_items)
            changes.append(_change(name, metric, Figure(value=before), Figure(value=after), items, paired))
    return changes


def turned(changes: Sequence[Change]) -> tuple[int, int, int] | None:
    """How many items turned right, how many wrong, and how many were compared; ``None`` where none were."""
    own = [c for c in changes if c.won is not None and c.lost is not None]
    return (sum(c.won or 0 for c in own), sum(c.lost or 0 for c in own), sum(c.items for c in own)) if own else None


def pooled(changes: Sequence[Change], what: str) -> Change | None:
    """Several shares as one.

    Where all items are paired they are taken together, since they weigh alike. Else it is the mean of the changes,
    whose intervals are combined as those of independent items.
    """
    if not changes:
        return None
    name = changes[0].name if len(changes) == 1 else f"{len(changes)} {what}"
    if any(c.won is None or c.lost is None for c in changes):
        return _mean(changes, name)
    items, won, lost = (sum(getattr(c, count) for c in changes) for count in ("items", "won", "lost"))
    parts = [c.items / items for c in changes]
    before, after = (
        math.fsum(part * getattr(c, end) for part, c in zip(parts, changes, strict=True)) for end in ("before", "after")
    )
    errors = [math.inf if c.stderr is None else c.stderr for c in changes]
    error = math.hypot(*(part * one for part, one in zip(parts, errors, strict=True)))
    chances = [c.chance for c in changes if c.chance is not None]
    return Change(
        **structs.asdict(from_counts(items, won, lost)),
        name=name,
        before=before,
        after=after,
        chance=math.fsum(p * c for p, c in zip(parts, chances, strict=True)) if len(chances) == len(changes) else None,
        metric=changes[0].metric,
        stderr=None if math.isinf(error) else error,
        paired=True,
    )


def _mean(changes: Sequence[Change], name: str) -> Change:
    n = len(changes)
    return Change(
        **structs.asdict(mean_change(changes, sum(c.items for c in changes))),
        name=name,
        before=math.fsum(c.before for c in changes) / n,
        after=math.fsum(c.after for c in changes) / n,
        metric=changes[0].metric,
        paired=all(c.paired for c in changes),
    )


def _shares(findings: Findings, topic: str) -> list[Change]:
    changes = []
    for record in (e for e in findings.after if isinstance(e, (TaskEvidence, Retrieval)) and e.topic == topic):
        base, metric = findings.counterpart(record), record.headline
        if base is not None and metric in base.metrics and metric in record.metrics:
            before, after = base.metrics[metric], record.metrics[metric]
            paired = findings.change(record, metric)
            changes.append(_change(record.task, metric, before, after, record.count, paired, base.chance))
    return changes


def _change(
    name: str,
    metric: str,
    before: Figure,
    after: Figure,
    items: int,
    paired: Paired | None,
    chance: float | None = None,
) -> Change:
    return Change(
        **structs.asdict(paired or Paired(difference=after.value - before.value, items=items)),
        name=name,
        before=before.value,
        after=after.value,
        chance=chance,
        metric=metric,
        stderr=before.stderr,
        paired=paired is not None,
    )


def rise(nats: float) -> float:
    """Of perplexity, as a share, where the loss rises by so much."""
    return math.expm1(min(nats, 700.0))
