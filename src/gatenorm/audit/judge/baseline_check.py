"""What a ranking has to beat and does not: the last layers, and layers drawn at random, at the same budget."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from gatenorm.audit.output.formatting import amount
from gatenorm.evaluation.statistics.paired_statistics import compare
from gatenorm.findings import rise
from gatenorm.records.audit import PRUNED, AuditedVariant
from gatenorm.records.evidence import Diagnostic, Evidence, Perplexity, of_type

KIND = "comparison-not-beaten"
_DEPTH, _RANDOM = "depth", "random"


def unbeaten(
    variants: Sequence[AuditedVariant], baseline: Sequence[Evidence], rankings: Sequence[str]
) -> list[Diagnostic]:
    """One warning for each of ``rankings`` that costs more loss than ``depth`` or random draws do, at any budget.

    Held against each other are losses on the first text, in nats a token; of random draws their mean. A difference
    counts however small it is, since to beat something is to do better; whether the paired items prove it is told.
    """
    whole = next(iter(of_type(baseline, Perplexity)), None)
    if whole is None:
        return []
    found: dict[str, dict[int, Perplexity]] = {}
    for one in variants:
        own = (e for e in of_type(one.evidence, Perplexity) if e.same_task(whole))
        record = next(own, None)
        if one.state == PRUNED and record is not None:
            found.setdefault(one.criterion, {})[len(one.plan.added.attention)] = record
    warnings = []
    for name in dict.fromkeys(rankings):
        cases = [
            case
            for count, record in sorted(found.get(name, {}).items())
            if (case := _case(name, count, record, {k: v[count] for k, v in found.items() if count in v}, whole))
        ]
        if cases:
            told = ". ".join(_told(case) for case in cases)
            message = f"{name} does not beat what knows nothing of the model: {told}"
            warnings.append(Diagnostic(kind=KIND, message=message, evidence={"ranking": name, "cases": cases}))
    return warnings


def at(warnings: Sequence[Diagnostic], ranking: str, count: int) -> list[str]:
    """What costs less than a ranking with so many removed, in words."""
    of_ranking = (w for w in warnings if w.kind == KIND and w.evidence["ranking"] == ranking)
    cases = [case for w in of_ranking for case in w.evidence["cases"] if case["removed"] == count]
    return [str(cheaper["what"]) for case in cases for cheaper in case["cheaper"]]


def _case(
    name: str, count: int, record: Perplexity, others: Mapping[str, Perplexity], whole: Perplexity
) -> dict[str, Any] | None:
    """One budget: what costs less there, and by how much; ``None`` where nothing does."""
    nll = record.nll
    cheaper = []
    depth = others.get(_DEPTH)
    if depth is not None and name != _DEPTH and depth.nll < nll:
        change = compare(depth, record)
        low = None if change is None else change.changes["nll"].low
        proven = low is not None and low > 0
        cheaper.append({"what": _DEPTH, "rise": _rise(depth.nll, whole), "proven": proven})
    draws = [e.nll for k, e in others.items() if k.partition("@")[0] == _RANDOM and k != name]
    if draws and statistics.fmean(draws) < nll:
        each = max(draws) < nll
        what = "the mean of the random draws" if not each else "each random draw" if len(draws) > 1 else "a random draw"
        cheaper.append({"what": what, "rise": _rise(statistics.fmean(draws), whole), "draws": len(draws)})
    return {"removed": count, "rise": _rise(nll, whole), "cheaper": cheaper} if cheaper else None


def _told(case: Mapping[str, Any]) -> str:
    rises = []
    for cheaper in case["cheaper"]:
        rise = amount(cheaper["rise"], "%", sign=True)
        mean = " in the mean" if cheaper.get("draws", 1) > 1 else ""
        doubt = ", within the interval" if cheaper.get("proven") is False else ""
        rises.append(f"{cheaper['what']} {rise}{mean}{doubt}")
    own = amount(case["rise"], "%", sign=True)
    return f"with {case['removed']} removed, perplexity {own}; {' and '.join(rises)}"


def _rise(nll: float, whole: Perplexity) -> float:
    """Of perplexity, in percent."""
    return 100 * rise(nll - whole.nll)
