"""What was measured of a variant beside the unpruned model, read out of an audit's evidence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gatenorm.records import Evidence
from gatenorm.records.audit import CANDIDATE, RECOVERED, Audit, AuditedVariant

# Of the built-in model's tasks: those that ask over a distance, and the one about what is forbidden.
_FAR, _REFUSAL = "recall", "refusal"
_TASKS = ("zeroshot", "demo-task", "harness")
# The figure that speaks for a task, the best first.
_METRICS = ("acc_norm", "acc", "accuracy", "exact_match", "choice")


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


@dataclass(frozen=True)
class Speed:
    """Speed-ups of one variant in one engine at one length and batch, with the extremes of the rounds."""

    engine: str
    tokens: int
    batch: int
    evidence: Evidence

    def of(self, figure: str) -> float | None:
        return self.evidence.figures.get(figure)


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


def counterpart(audit: Audit, record: Evidence) -> Evidence | None:
    """The unpruned model's record of the same task on the same data."""
    same = [
        e
        for e in audit.baseline
        if e.kind == record.kind
        and e.protocol.get("task") == record.protocol.get("task")
        and e.data.get("sha256") == record.data.get("sha256")
    ]
    return same[0] if same else None


def perplexities(audit: Audit, variant: AuditedVariant) -> list[Change]:
    """Perplexity text by text; ``difference`` is the rise as a share, its interval from the paired losses."""
    found = []
    for record in (e for e in variant.evidence if e.kind == "perplexity" and "perplexity" in e.figures):
        base = counterpart(audit, record)
        if base is None:
            continue
        before, after = base.figures["perplexity"], record.figures["perplexity"]
        paired = _comparison(variant, record)
        ends = [paired.figures.get(f"nll_{end}") if paired else None for end in ("low", "high")]
        low, high = (None if end is None else _rise(end) for end in ends)
        tokens = int(record.figures.get("tokens", 0))
        name = str(record.data.get("name", "text"))
        found.append(Change(name, before, after, after / before - 1, low, high, tokens))
    return found


def tasks(audit: Audit, variant: AuditedVariant) -> list[Change]:
    """General tasks one by one, as shares of right answers."""
    own = [e for e in variant.evidence if e.kind in _TASKS and not _task(e).startswith((_FAR, _REFUSAL))]
    return _changes(audit, variant, own)


def average(audit: Audit, variant: AuditedVariant) -> Change | None:
    """The mean over the general tasks: the harness's average where there is one, else that of all that was asked."""
    record = next((e for e in variant.evidence if e.kind == "zeroshot-average"), None)
    base = next((e for e in audit.baseline if e.kind == "zeroshot-average"), None)
    if record is not None and base is not None:
        paired = next((e for e in variant.evidence if _of(e) == "zeroshot-average"), None)
        figures = paired.figures if paired else {}
        before, after = base.figures["average"], record.figures["average"]
        ends = figures.get("average_low"), figures.get("average_high")
        count = int(record.figures.get("tasks", 0))
        return Change(f"zero-shot, {count} tasks", before, after, after - before, *ends)
    return mean(tasks(audit, variant), "tasks")


def retrieval(audit: Audit, variant: AuditedVariant) -> list[Change]:
    """Questions whose answer was said far back, form by form."""
    own = [
        e for e in variant.evidence if e.kind == "retrieval" or (e.kind == "demo-task" and _task(e).startswith(_FAR))
    ]
    return _changes(audit, variant, own, metric="choice")


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
    for record in variant.evidence:
        if record.kind == "refusal":
            for metric in ("refused_harmful", "answered_harmless", "system_obeyed"):
                found += _changes(audit, variant, [record], metric)
        elif record.kind == "demo-task" and _task(record).startswith(_REFUSAL):
            found += _changes(audit, variant, [record])
    return found


def flips(changes: Iterable[Change]) -> tuple[int, int] | None:
    """How many requests turned, and how many were asked; ``None`` where none was compared."""
    own = [c for c in changes if c.won is not None and c.lost is not None]
    return (sum((c.won or 0) + (c.lost or 0) for c in own), sum(c.items for c in own)) if own else None


def domain(variant: AuditedVariant) -> Evidence | None:
    """How closely the variant follows the unpruned model on the user's own workload."""
    return next((e for e in variant.evidence if e.kind == "domain"), None)


def speeds(variant: AuditedVariant) -> list[Speed]:
    """What was timed against the unpruned model, the longest prompt last."""
    own = [e for e in variant.evidence if e.kind == "speed" and "prefill_speedup" in e.figures]
    found = [Speed(str(e.protocol["engine"]), e.protocol["prompt_tokens"], e.protocol["batch"], e) for e in own]
    return sorted(found, key=lambda s: (s.tokens, -s.batch))


def telling_speeds(audit: Audit) -> tuple[str, int, int] | None:
    """The engine, length and batch that the first screen quotes: the longest prompt of the engine timed first."""
    timed = [s for v in audit.variants for s in speeds(v)]
    if not timed:
        return None
    engine = timed[0].engine
    longest = max((s for s in timed if s.engine == engine), key=lambda s: (s.tokens, -s.batch))
    return engine, longest.tokens, longest.batch


def told_speed(audit: Audit, variant: AuditedVariant) -> Speed | None:
    """This variant's timing at what :func:`telling_speeds` names."""
    at = telling_speeds(audit)
    return next((s for s in speeds(variant) if (s.engine, s.tokens, s.batch) == at), None)


def engines(audit: Audit) -> list[str]:
    """The engines that anything was timed in."""
    return list(dict.fromkeys(s.engine for v in audit.variants for s in speeds(v)))


def _changes(audit: Audit, variant: AuditedVariant, records: Sequence[Evidence], metric: str = "") -> list[Change]:
    found = []
    for record in records:
        base = counterpart(audit, record)
        name = metric if metric in record.figures else next((m for m in _METRICS if m in record.figures), "")
        if (
            base is None
            or name not in base.figures
            or name not in record.figures
            or (metric and name != metric and record.kind == "refusal")
        ):
            continue
        paired = _comparison(variant, record)
        figures = paired.figures if paired else {}
        before, after = base.figures[name], record.figures[name]
        won, lost = figures.get(f"{name}_won"), figures.get(f"{name}_lost")
        items = figures.get(f"{name}_items", record.figures.get("items", 0.0))
        found.append(
            Change(
                name=_task(record) if record.kind != "refusal" else name,
                before=before,
                after=after,
                difference=after - before,
                low=figures.get(f"{name}_low"),
                high=figures.get(f"{name}_high"),
                items=int(items),
                chance=record.figures.get("chance"),
                won=None if won is None else int(won),
                lost=None if lost is None else int(lost),
                metric=name,
            )
        )
    return found


def _comparison(variant: AuditedVariant, record: Evidence) -> Evidence | None:
    return next(
        (
            e
            for e in variant.evidence
            if _of(e) == record.kind
            and e.protocol.get("task") == record.protocol.get("task")
            and e.data.get("sha256") == record.data.get("sha256")
        ),
        None,
    )


def _of(record: Evidence) -> str:
    return str(record.protocol.get("of")) if record.kind == "comparison" else ""


def _task(record: Evidence) -> str:
    return str(record.protocol.get("task", record.kind))


def _rise(nats: float) -> float:
    return math.exp(min(nats, 700)) - 1
