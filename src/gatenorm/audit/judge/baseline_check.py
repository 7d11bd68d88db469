"""Whether a ranking beats what knows nothing of the model: the last layers, and layers drawn at random."""

import statistics
from collections.abc import Mapping, Sequence

from gatenorm.findings import loss_change, rise
from gatenorm.records.audit import PRUNED, AuditedVariant
from gatenorm.records.evidence import (
    CheaperAtBudget,
    CheaperBaseline,
    Diagnostic,
    Evidence,
    NotBeaten,
    Perplexity,
    of_type,
)
from gatenorm.report.gate_figures import amount

_DEPTH, _RANDOM = "depth", "random"


def warning_of(check: NotBeaten) -> Diagnostic:
    """The same as a warning of the audit."""
    listed = ". ".join(
        f"with {case.removed} removed, perplexity {amount(case.rise, '%', sign=True)}; "
        + " and ".join(map(_words, case.cheaper))
        for case in check.cases
    )
    message = f"{check.ranking} does not beat what knows nothing of the model: {listed}"
    return Diagnostic(message=message, evidence=check)


def _words(baseline: CheaperBaseline) -> str:
    """``depth +52%, within the interval``."""
    mean = " in the mean" if (baseline.draws or 1) > 1 else ""
    doubt = ", within the interval" if baseline.proven is False else ""
    return f"{baseline.what} {amount(baseline.rise, '%', sign=True)}{mean}{doubt}"


def check_baselines(
    variants: Sequence[AuditedVariant], baseline: Sequence[Evidence], rankings: Sequence[str]
) -> list[NotBeaten]:
    """One check for each of ``rankings`` that costs more loss than ``depth`` or random draws do, at any budget.

    Compared are losses of plain removals on the first text, in nats a token; of random draws their mean. A difference
    counts however small it is, since to beat something is to do better.
    """
    whole = next(iter(of_type(baseline, Perplexity)), None)
    if whole is None:
        return []
    measured: dict[str, dict[int, Perplexity]] = {}
    for variant in variants:
        record = next((e for e in of_type(variant.evidence, Perplexity) if e.same_task(whole)), None)
        if variant.state == PRUNED and not variant.plan.replaces and record is not None:
            measured.setdefault(variant.criterion, {})[len(variant.plan.added.attention)] = record
    checks = []
    for name in dict.fromkeys(rankings):
        cases = []
        for count, record in sorted(measured.get(name, {}).items()):
            others = {k: v[count] for k, v in measured.items() if count in v and k != name}
            cheaper = tuple(_cheaper(record, others, whole))
            if cheaper:
                cases.append(CheaperAtBudget(removed=count, rise=_rise(record.nll, whole), cheaper=cheaper))
        if cases:
            checks.append(NotBeaten(ranking=name, cases=tuple(cases)))
    return checks


def _cheaper(record: Perplexity, others: Mapping[str, Perplexity], whole: Perplexity) -> list[CheaperBaseline]:
    """The baselines among other rankings at this budget that cost less."""
    cheaper = []
    depth = others.get(_DEPTH)
    if depth is not None and depth.nll < record.nll:
        low = loss_change(depth, record).low
        proven = low is not None and low > 0
        cheaper.append(CheaperBaseline(what=_DEPTH, rise=_rise(depth.nll, whole), proven=proven))
    draws = [e.nll for name, e in others.items() if name.partition("@")[0] == _RANDOM]
    if draws and statistics.fmean(draws) < record.nll:
        each = max(draws) < record.nll
        what = "the mean of the random draws" if not each else "each random draw" if len(draws) > 1 else "a random draw"
        cheaper.append(CheaperBaseline(what=what, rise=_rise(statistics.fmean(draws), whole), draws=len(draws)))
    return cheaper


def _rise(nll: float, whole: Perplexity) -> float:
    """Of perplexity, in percent."""
    return 100 * rise(nll - whole.nll)
