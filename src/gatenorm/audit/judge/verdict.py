"""The verdict: which budget passes, by which ranking, and what it is worth, in three sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gatenorm.audit.judge.baseline_check import BaselineCheck
from gatenorm.audit.judge.gates import BY_CHANCE
from gatenorm.audit.judge.selection import chosen_of, nearest
from gatenorm.audit.output.formatting import amount, figure, interval
from gatenorm.records.audit import (
    CANDIDATE,
    FAILS,
    INCONCLUSIVE,
    PASSES,
    AuditedVariant,
    BestSupported,
    GateResult,
    NotExamined,
)
from gatenorm.surgery.operation import participles


def verdict(
    variants: Sequence[AuditedVariant],
    best: BestSupported,
    requested: str,
    missing: Sequence[NotExamined],
    checks: Sequence[BaselineCheck] = (),
) -> tuple[tuple[str, ...], str | None]:
    """Three sentences, and the name of the variant that they recommend, if any.

    Args:
        checks: which baselines cost less loss than the rankings do.
    """
    chosen = chosen_of(variants)
    return (
        (
            _which(variants, chosen),
            _by_which_ranking(best, requested, checks),
            _savings(chosen or nearest(variants), missing),
        ),
        chosen.name if chosen else None,
    )


def _which(variants: Sequence[AuditedVariant], chosen: AuditedVariant | None) -> str:
    candidates = [v for v in variants if v.role == CANDIDATE]
    counts = Counter(v.outcome for v in candidates)
    counted = ", ".join(f"{n} {_verb(o, n)}" for o in (PASSES, FAILS, INCONCLUSIVE) if (n := counts[o]))
    tally = f"of {len(candidates)} candidates: {counted}"
    if chosen is not None:
        figures = "; ".join(f"{g.gate} {figure(g)}" for g in chosen.gates if g.value is not None)
        return (
            f"{chosen.name} passes, with {len(chosen.plan.added.attention)} attention sublayers ({chosen.share:.0%}) "
            f"{participles(chosen.plan.added)} ({figures}); {tally}."
        )
    closest = nearest(variants)
    if closest is None:
        return "There was no candidate to judge."
    why = closest.rejected or _obstacles(closest)
    return f"No budget passes; {tally}; the nearest is {closest.name} ({closest.outcome}: {why})."


def _verb(outcome: str, count: int) -> str:
    plural = {PASSES: "pass", FAILS: "fail"}
    return plural.get(outcome, outcome) if count > 1 else outcome


def _obstacles(variant: AuditedVariant) -> str:
    """The gates that speak against a variant, the decided ones first."""
    against = [g for g in variant.gates if g.outcome == FAILS] or [
        g for g in variant.gates if g.outcome == INCONCLUSIVE
    ]
    words = [
        f"{gate.gate} is inconclusive, since {BY_CHANCE}"
        if gate.detail.startswith(BY_CHANCE)
        else f"{gate.gate} {figure(gate)}{_span(gate)} where {_limit(gate)} is asked for"
        for gate in against
    ]
    return "; ".join(words) or "no gate about quality could be held against a figure"


def _limit(gate: GateResult) -> str:
    least = "at least" if gate.gate == "speed-up" else "at most"
    return f"{least} {amount(gate.limit, gate.unit)}"


def _span(gate: GateResult) -> str:
    return f" ({interval(gate)})" if interval(gate) else ""


def _by_which_ranking(best: BestSupported, requested: str, checks: Sequence[BaselineCheck]) -> str:
    cheaper = [what for check in checks if check.ranking == best.ranking for what in check.cheaper_at(best.count)]
    more = f"; {' and '.join(cheaper)} {'cost' if len(cheaper) > 1 else 'costs'} less still" if cheaper else ""
    if best.ranking == requested:
        return f"Measurements favour {requested} ({best.why}){more}."
    return f"Measurements favour {best.ranking} over {requested} ({best.why}){more}."


def _savings(variant: AuditedVariant | None, missing: Sequence[NotExamined]) -> str:
    said = variant.cost_benefit.sentence.rstrip(".") if variant is not None and variant.cost_benefit else ""
    said = f"{variant.name}: {said}" if said and variant is not None else "What it saves was not measured"
    if not missing:
        return f"{said}; nothing that was asked for is left unexamined."
    return f"{said}; not examined: {', '.join(m.what for m in missing)}."
