"""Whether a ranking beats what knows nothing of the model: the last layers, and layers drawn at random."""

import statistics
from collections.abc import Mapping, Sequence

from gatenorm.findings import loss_change, rise
from gatenorm.records import to_json
from gatenorm.records.audit import NOT_BEATEN, PRUNED, AuditedVariant
from gatenorm.records.evidence import Diagnostic, Evidence, Perplexity, of_type
from gatenorm.records.serialization import Value
from gatenorm.report.gate_figures import amount

_DEPTH, _RANDOM = "depth", "random"


class CheaperBaseline(Value, frozen=True, omit_defaults=True):
    """A baseline that costs less: its rise of perplexity in percent, and whether paired items prove the difference."""

    what: str
    rise: float
    proven: bool | None = None
    draws: int | None = None

    def words(self) -> str:
        """``depth +52%, within the interval``."""
        mean = " in the mean" if (self.draws or 1) > 1 else ""
        doubt = ", within the interval" if self.proven is False else ""
        return f"{self.what} {amount(self.rise, '%', sign=True)}{mean}{doubt}"


class CheaperAtBudget(Value, frozen=True):
    """A ranking with so many removed, its rise of perplexity in percent, and the baselines that cost less there."""

    removed: int
    rise: float
    cheaper: tuple[CheaperBaseline, ...]


class BaselineCheck(Value, frozen=True):
    """A ranking and the budgets at which a baseline costs less."""

    ranking: str
    cases: tuple[CheaperAtBudget, ...]

    def cheaper_at(self, removed: int) -> list[str]:
        """The names of the baselines that cost less with so many removed."""
        return [baseline.what for case in self.cases if case.removed == removed for baseline in case.cheaper]

    def warning(self) -> Diagnostic:
        """The same as a warning of the audit."""
        listed = ". ".join(
            f"with {case.removed} removed, perplexity {amount(case.rise, '%', sign=True)}; "
            + " and ".join(baseline.words() for baseline in case.cheaper)
            for case in self.cases
        )
        message = f"{self.ranking} does not beat what knows nothing of the model: {listed}"
        return Diagnostic(kind=NOT_BEATEN, message=message, evidence=to_json(self))


def check_baselines(
    variants: Sequence[AuditedVariant], baseline: Sequence[Evidence], rankings: Sequence[str]
) -> list[BaselineCheck]:
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
            checks.append(BaselineCheck(ranking=name, cases=tuple(cases)))
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
