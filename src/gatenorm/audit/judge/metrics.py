"""The figures that gates are held against, out of a variant's records and its baseline's."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatenorm.evaluation.statistics.paired_statistics import compare, from_counts, median_interval
from gatenorm.evaluation.tasks.refusal import METRICS
from gatenorm.evaluation.tasks.zeroshot import average, average_difference
from gatenorm.records import Evidence


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
    changes: tuple[Evidence, ...]


Find = Callable[[Findings], Reading | Sequence[Reading] | None]
_COUNTS = ("items", "won", "lost")
# Of shares of right answers, where their standard errors stand.
_ERRORS = {"accuracy": "standard_error"}
# So many standard errors above chance a model has shown that it does not guess.
_SURE = 2.0


def findings(before: Sequence[Evidence], after: Sequence[Evidence]) -> Findings:
    """Pairs every record of a variant with the unpruned model's of the same task and data, item by item.

    An average over zero-shot tasks is added to the records, and how it changed to the changes.
    """
    averages = [average(list(records)) for records in (before, after)]
    partners = {_task(e): e for e in before}
    changes = [
        change
        for e in after
        if e.items and _task(e) in partners and (change := compare(partners[_task(e)], e)) is not None
    ]
    if averages[0] is not None and averages[1] is not None:
        change = average_difference(changes, averages[1])
        changes += [change] if change is not None else []
    both = [(*records, *([found] if found else [])) for records, found in zip((before, after), averages, strict=True)]
    return Findings(tuple(both[0]), tuple(both[1]), tuple(changes))


def perplexity_rise(found: Findings) -> Sequence[Reading]:
    """``100 (exp(d) - 1)`` for the paired difference ``d`` of the losses, of every text."""
    readings = []
    for change in _changes(found, "perplexity"):
        d, low, high = (change.figures.get(f"nll_{name}") for name in ("difference", "low", "high"))
        name = f"on {change.data['name']}"
        if d is not None:
            ends = [None if end is None else _percent(end) for end in (low, high)]
            readings.append(Reading(_percent(d), ends[0], ends[1], name, too_few=low is None))
    return readings


def task_drop(found: Findings) -> Reading | None:
    """Points by which the average over the tasks fell: the zero-shot average, or that of the built-in model's tasks."""
    for change in _changes(found, "zeroshot-average"):
        d, low, high = (change.figures[f"average_{name}"] for name in ("difference", "low", "high"))
        told, guessed = _guessed(found, "zeroshot", "average")
        detail = f"average of {change.data['name']}{told}"
        return Reading(_lost(d), _lost(high), _lost(low), detail, by_chance=guessed)
    single = _changes(found, "zeroshot")
    if len(single) == 1:
        metric = "acc_norm" if "acc_norm_difference" in single[0].figures else "acc"
        return _drop(found, single, metric)
    own = [c for c in _changes(found, "demo-task") if not str(c.protocol["task"]).startswith(("recall", "refusal"))]
    return _drop(found, own, "accuracy")


def refusal_flips(found: Findings) -> Reading | None:
    """Items whose reply was right by the rule before and is not after, whatever was expected of it."""
    changes = _changes(found, "refusal")
    metrics: tuple[str, ...] = tuple(METRICS.values())
    if not changes:
        changes = [c for c in _changes(found, "demo-task") if str(c.protocol["task"]).startswith("refusal")]
        metrics = ("accuracy",)
    if not changes:
        return None
    lost = sum(c.figures.get(f"{m}_lost", 0.0) for c in changes for m in metrics)
    items = sum(c.figures.get(f"{m}_items", 0.0) for c in changes for m in metrics)
    return Reading(lost, detail=f"of {items:.0f} items")


def retrieval_loss(found: Findings) -> Reading | None:
    """Points by which the share of facts found among the candidates fell."""
    changes = _changes(found, "retrieval")
    if changes:
        return _drop(found, changes, "choice")
    own = [c for c in _changes(found, "demo-task") if str(c.protocol["task"]).startswith("recall")]
    return _drop(found, own, "accuracy")


def domain_divergence(found: Findings) -> Reading | None:
    """Mean divergence in nats, with the interval of its record; of fewer than two items there is none."""
    for evidence in found.after:
        if evidence.kind == "domain":
            f = evidence.figures
            low, high = f.get("kl_low"), f.get("kl_high")
            return Reading(f["kl"], low, high, f"{f['items']:.0f} items", too_few=low is None)
    return None


def speed_up(found: Findings) -> Sequence[Reading]:
    """Time of a request (prompt and new tokens), unpruned over pruned, by round: the median and its interval.

    Taken at the longest prompt and the smallest batch, in every engine.
    """
    readings = []
    for engine in dict.fromkeys(str(e.protocol["engine"]) for e in found.after if e.kind == "speed"):
        of_engine = [e for e in found.after if e.kind == "speed" and e.protocol["engine"] == engine]
        pairs = [(b, e) for e in of_engine if e.figures and (b := unpruned(found.before, e)) is not None]
        if not pairs:
            continue
        before, after = max(pairs, key=lambda p: (p[1].protocol["prompt_tokens"], -p[1].protocol["batch"]))
        ratios = [b / a for b, a in zip(requests(before), requests(after), strict=True)]
        case = f"{after.protocol['prompt_tokens']:,} + {after.protocol['new_tokens']} tokens"
        low, high = median_interval(ratios) or (None, None)
        detail = f"{engine}, {case}, median of {len(ratios)} rounds"
        readings.append(Reading(statistics.median(ratios), low, high, detail, too_few=low is None))
    return readings


def verify_faults(found: Findings) -> Reading | None:
    """How many faults ``verify`` found in the exports."""
    checked = [e for e in found.after if e.kind == "verify"]
    if not checked:
        return None
    faults = [fault for e in checked for fault in e.protocol.get("faults", ())]
    return Reading(float(len(faults)), detail="; ".join(faults) or "every export computes the same")


def unpruned(before: Sequence[Evidence], speed: Evidence) -> Evidence | None:
    """The unpruned model's speed record that was taken in turns with this one."""
    keys = ("engine", "prompt_tokens", "batch", "new_tokens", "order")
    same = (e for e in before if e.kind == "speed" and all(e.protocol[k] == speed.protocol[k] for k in keys))
    return next((e for e in same if e.figures), None)


def requests(speed: Evidence) -> list[float]:
    """Seconds of a whole request, prompt and new tokens, by round."""
    return [sample["prefill"] + sample["decode"] for sample in speed.data["samples"]]


def _drop(findings: Findings, changes: Sequence[Evidence], metric: str) -> Reading | None:
    """Points by which a share fell, all items taken together: they are paired, and weigh alike."""
    found = [c for c in changes if f"{metric}_difference" in c.figures]
    if not found:
        return None
    n, won, lost = (round(sum(c.figures.get(f"{metric}_{what}", 0.0) for c in found)) for what in _COUNTS)
    paired = from_counts(n, won, lost)
    told, guessed = _guessed(findings, str(found[0].protocol["of"]), metric, [c.protocol.get("task") for c in found])
    detail = f"{lost} of {n} items lost, {won} won{told}"
    return Reading(_lost(paired.difference), _lost(paired.high), _lost(paired.low), detail, by_chance=guessed)


def _guessed(found: Findings, kind: str, metric: str, tasks: Sequence[object] | None = None) -> tuple[str, bool]:
    """Whether the unpruned model is less than two standard errors above chance, and its share beside chance in words.

    Over several tasks both are means over the items, with the error ``sqrt(sum (n e)^2) / sum n``; of the ``average``,
    over the tasks. Where a record knows no chance, nothing is said; where it knows no error, as of a single item, the
    model has shown nothing.
    """
    own = [e for e in found.before if e.kind == kind and (tasks is None or e.protocol.get("task") in tasks)]
    if not own or any("chance" not in e.figures for e in own):
        return "", False
    if metric == "average":
        (mean,) = (e for e in found.before if e.kind == "zeroshot-average")
        share, error = mean.figures["average"], mean.figures.get("average_stderr", math.inf)
        chance = math.fsum(e.figures["chance"] for e in own) / len(own)
    else:
        items = [e.figures["items"] for e in own]
        parts = [n / sum(items) for n in items]
        share = math.fsum(p * e.figures[metric] for p, e in zip(parts, own, strict=True))
        errors = [e.figures.get(_ERRORS.get(metric, f"{metric}_stderr"), math.inf) for e in own]
        error = math.hypot(*(p * one for p, one in zip(parts, errors, strict=True)))
        chance = math.fsum(p * e.figures["chance"] for p, e in zip(parts, own, strict=True))
    guessed = share - chance < _SURE * error or share <= chance
    return (f"; unpruned {share:.1%} right, chance {chance:.1%}" if guessed else ""), guessed


def _changes(found: Findings, kind: str) -> list[Evidence]:
    return [c for c in found.changes if c.protocol["of"] == kind]


def _lost(difference: float) -> float:
    """Points lost, from a difference of shares; never a negative zero, which people would read."""
    return 0.0 - 100 * difference


def _percent(difference: float) -> float:
    return 100 * math.expm1(min(difference, 700.0))


def _task(evidence: Evidence) -> tuple[str, str, str]:
    data = evidence.data
    return evidence.kind, str(evidence.protocol.get("task", "")), str(data.get("sha256", data.get("name", "")))
