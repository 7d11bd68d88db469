"""The verdict: what can be done, one reason, and quality, speed and safety each judged by itself."""

from collections import Counter
from collections.abc import Sequence

from gatenorm.audit.judge.cost_benefit import how_fast
from gatenorm.audit.judge.selection import chosen_of, nearest
from gatenorm.records import REMOVE
from gatenorm.records.audit import (
    BY_CHANCE,
    CANDIDATE,
    FAILS,
    INCONCLUSIVE,
    INFORMATION,
    NOT_DONE,
    PASSES,
    QUALITY,
    SAFETY,
    SPEED,
    WORST_FIRST,
    AuditedVariant,
    BestSupported,
    GateResult,
    Judgement,
    Verdict,
)
from gatenorm.records.evidence import NotBeaten
from gatenorm.report.gate_figures import amount, figure, interval, limit, readable

# What would decide a question that no figure has decided.
_SETTLE = {
    QUALITY: "more items, or a longer text",
    SPEED: "more rounds, or a machine with nothing else to do",
    SAFETY: "more items that the model should refuse or answer",
}
_UNEXAMINED = {
    QUALITY: "a text to measure perplexity on",
    SPEED: "an engine to time",
    SAFETY: "items that the model should refuse or answer, or an export to verify",
}


def verdict(
    variants: Sequence[AuditedVariant], best: BestSupported, requested: str, checks: Sequence[NotBeaten] = ()
) -> tuple[Verdict, str | None]:
    """The verdict, and the name of the variant that it recommends, if any.

    Args:
        checks: which baselines cost less loss than the rankings do.
    """
    chosen = chosen_of(variants)
    about = chosen or nearest(variants)
    ranking = _by_which_ranking(best, requested, checks)
    if about is None:
        headline, reason = "There is nothing to decide on.", "There was no candidate to judge."
        return Verdict(outcome=INCONCLUSIVE, headline=headline, reason=reason, judgements=(), ranking=ranking), None
    candidates = [v for v in variants if v.role == CANDIDATE]
    counts = Counter(v.outcome for v in candidates)
    counted = [f"{n} {_verb(o, n)}" for o in (PASSES, FAILS, INCONCLUSIVE) if (n := counts[o])]
    tally = f"of {len(candidates)} candidates {_listed(counted)}" if len(counts) > 1 else f"all {counted[0]}"
    judgements = tuple(_judgement(about, aspect) for aspect in (QUALITY, SPEED, SAFETY))
    if chosen is not None:
        headline = f"You can {_what(chosen)}: {_gains(chosen)}."
        most = f"; {tally}, and of those that pass it edits most" if counts[PASSES] > 1 else f"; {tally}"
        reason = f"{chosen.name} passes every gate{_tightest(chosen)}{most if len(candidates) > 1 else ''}."
    else:
        headline = f"Don't prune this model yet: {_obstacle(about)}."
        others = "" if len(candidates) == 1 else f"; {tally}"
        reason = f"{about.name}, the candidate closest to passing, would {_what(about)}{others}."
    said = Verdict(
        outcome=FAILS if all(v.outcome == FAILS for v in candidates) else about.outcome,
        headline=headline,
        reason=reason,
        judgements=judgements,
        ranking=ranking,
        about=about.name,
    )
    return said, chosen.name if chosen else None


def _listed(words: Sequence[str]) -> str:
    """``1 passes, 2 fail and 1 is inconclusive``."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _verb(outcome: str, count: int) -> str:
    plural = {PASSES: "pass", FAILS: "fail", INCONCLUSIVE: "are inconclusive"}
    return plural[outcome] if count > 1 else "is inconclusive" if outcome == INCONCLUSIVE else outcome


def _what(variant: AuditedVariant) -> str:
    """``replace 6 of 30 attention sublayers``."""
    operations = {edit.operation for edit in variant.plan.added}
    verb = " or ".join(["remove"] * (REMOVE in operations) + ["replace"] * bool(operations - {REMOVE}))
    return f"{verb} {len(variant.plan.added.attention)} of {variant.present} attention sublayers"


def _gains(variant: AuditedVariant) -> str:
    """What that costs and what it gains, in a few words."""
    quality = next((_plainly(g) for g in variant.gates if g.aspect == QUALITY), "quality was not measured")
    if variant.cost_benefit is None:
        return f"{quality}, and its speed was not measured"
    case = variant.cost_benefit.quoted
    if case.outcome == PASSES:
        return f"{quality}, and requests of {case.prompt_tokens:,} tokens are {case.request_speedup:.2f} times as fast"
    return f"{quality}, but requests are {'not faster' if case.outcome == FAILS else 'not shown to be faster'}"


def _plainly(gate: GateResult) -> str:
    """``perplexity rises by 3.43%``."""
    if gate.gate == "refusal-flips" and gate.value is not None:
        replies = "1 reply" if gate.value == 1 else f"{gate.value:.0f} replies"
        return f"{replies} to what it should refuse or answer {'is' if gate.value == 1 else 'are'} no longer right"
    if gate.gate != "perplexity-rise" or gate.value is None:
        return f"{readable(gate.gate)} {figure(gate)}"
    return f"perplexity {'rises' if gate.value >= 0 else 'falls'} by {amount(abs(gate.value), '%', beside=gate.limit)}"


def _allowed(gate: GateResult) -> str:
    """``at most 6% is allowed``."""
    if gate.limit == 0 and not gate.least:
        return "none is allowed"
    return f"{limit(gate)} is {'needed' if gate.least else 'allowed'}"


def _tightest(variant: AuditedVariant) -> str:
    """The loss that is nearest to its limit, if anything was lost."""
    lost = [(g.value / g.limit, g) for g in variant.gates if g.value and g.value > 0 and g.limit and not g.least]
    if not lost:
        return ""
    gate = max(lost, key=lambda pair: pair[0])[1]
    return f" (nearest to its limit: {_plainly(gate)}, {_allowed(gate)})"


def _obstacle(variant: AuditedVariant) -> str:
    """Why it is not recommended: the gates that fail, or else what is inconclusive."""
    if variant.rejected:
        return variant.rejected
    against = [g for g in variant.gates if g.outcome == FAILS]
    if against:
        return " and ".join(f"{_plainly(g)}, where {_allowed(g)}" for g in against)
    if not any(g.aspect == QUALITY for g in variant.gates):
        return "nothing was measured that says what it would cost in quality"
    open_ones = list(dict.fromkeys(g.aspect for g in variant.gates if g.outcome == INCONCLUSIVE))
    return f"{' and '.join(open_ones)} {'are' if len(open_ones) > 1 else 'is'} not settled"


def _judgement(variant: AuditedVariant, aspect: str) -> Judgement:
    gates = [g for g in variant.gates if g.aspect == aspect]
    if gates:
        outcome = min((g.outcome for g in gates), key=WORST_FIRST.index)
        telling = [g for g in gates if g.outcome == outcome] if outcome != PASSES else gates
        if aspect == SPEED and variant.cost_benefit is not None:
            case = variant.cost_benefit.quoted
            at = f"{case.prompt_tokens:,} + {case.new_tokens} tokens in {case.engine}"
            sentence = f"{_held(telling[0])}, for a request of {at}"
        else:
            sentence = "; ".join(map(_held, telling))
        return Judgement(aspect=aspect, outcome=outcome, sentence=sentence, settle=_settle(aspect, telling))
    if aspect == SPEED and variant.cost_benefit is not None:
        sentence = f"{how_fast(variant.cost_benefit.quoted)}; no gate judges it"
        return Judgement(aspect=aspect, outcome=INFORMATION, sentence=sentence)
    why = variant.rejected and "rejected before it was measured"
    settle = "" if why else _UNEXAMINED[aspect]
    return Judgement(aspect=aspect, outcome=NOT_DONE, sentence=why or "nothing was measured", settle=settle)


def _settle(aspect: str, telling: Sequence[GateResult]) -> str:
    if all(g.outcome != INCONCLUSIVE for g in telling):
        return ""
    if all(g.detail.startswith(BY_CHANCE) for g in telling):
        return "tasks at which the unpruned model does better than chance"
    return _SETTLE[aspect]


def _held(gate: GateResult) -> str:
    """``perplexity rise +3.43% (+2.9% to +4%), at most 6%``."""
    name = readable(gate.gate)
    if gate.detail.startswith(BY_CHANCE):
        return f"{name} is inconclusive, since {BY_CHANCE}"
    if gate.value is None:
        return f"{name} {gate.detail}"
    ends = interval(gate)
    return f"{name} {figure(gate)}{f' ({ends})' if ends else ''}, {limit(gate)}"


def _by_which_ranking(best: BestSupported, requested: str, checks: Sequence[NotBeaten]) -> str:
    cheaper = [what for check in checks if check.ranking == best.ranking for what in check.cheaper_at(best.count)]
    more = f"; {' and '.join(cheaper)} {'cost' if len(cheaper) > 1 else 'costs'} less still" if cheaper else ""
    if best.ranking == requested:
        return f"Measurements favour {requested} ({best.why}){more}."
    return f"Measurements favour {best.ranking} over {requested} ({best.why}){more}."
