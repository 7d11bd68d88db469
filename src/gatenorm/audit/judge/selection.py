"""What the gates say of each variant, and which candidate passes or comes closest."""

from collections.abc import Sequence

from gatenorm.analysis.diagnostics import HIGH_PERPLEXITY, JUMP, too_high
from gatenorm.audit.judge.gates import PERPLEXITY_RISE
from gatenorm.findings import counterpart
from gatenorm.records import Evidence
from gatenorm.records.audit import CANDIDATE, FAILS, PASSES, Audit, AuditedVariant
from gatenorm.records.evidence import Perplexity, of_type

# In the place of a gate: any of them.
ANY = "any"


def unstable(before: Sequence[Evidence], after: Sequence[Evidence]) -> str:
    """Why a perplexity means that a layer which the model needs has gone; empty where none does."""
    pairs = ((counterpart(before, record), record) for record in of_type(after, Perplexity))
    reasons = (too_far(unpruned.perplexity, record.perplexity) for unpruned, record in pairs if unpruned is not None)
    return next(filter(None, reasons), "")


def too_far(before: float, after: float) -> str:
    """Why a perplexity is too far from the unpruned model's; empty where it is not.

    An order of magnitude above the unpruned model's, or above 100 where the unpruned model's is at most half of that:
    on a text that is foreign to the model, 100 says nothing.
    """
    risen = f"perplexity {after:.4g}, unpruned {before:.4g}"
    if not after < JUMP * before:
        return f"{risen}: a rise by an order of magnitude; nothing more was measured"
    if too_high(before, after):
        return f"{risen}: above {HIGH_PERPLEXITY:g}; nothing more was measured"
    return ""


def rise(variant: AuditedVariant) -> float | None:
    """The rise of perplexity in percent, where a gate judged it."""
    return next((g.value for g in variant.gates if g.gate == PERPLEXITY_RISE), None)


def chosen_of(variants: Sequence[AuditedVariant]) -> AuditedVariant | None:
    """The passing candidate with the most removed; of several, the one with the least rise of perplexity."""
    passing = [v for v in variants if v.role == CANDIDATE and v.outcome == PASSES]
    return max(passing, key=lambda v: (v.share, -(rise(v) or 0.0)), default=None)


def nearest(variants: Sequence[AuditedVariant]) -> AuditedVariant | None:
    """The candidate closest to passing: an inconclusive one before one that fails, fewer failed gates, less excess.

    A variant's excess is that of its worst gate: how far the figure, or the end of its interval, lies beyond the limit,
    as a share of the limit (of 1 where the limit is smaller). A gate at which the unpruned model does no better than
    chance tells nothing, whatever its figure. Of equal ones the one with fewer removals.
    """
    candidates = [v for v in variants if v.role == CANDIDATE]

    def distance(v: AuditedVariant) -> tuple[float, ...]:
        failed = sum(gate.outcome == FAILS for gate in v.gates)
        return v.outcome == FAILS, bool(v.rejected), failed, _excess(v), v.share

    return min(candidates, key=distance, default=None)


def _excess(variant: AuditedVariant) -> float:
    excess = 0.0
    for gate in variant.gates:
        if gate.by_chance:
            continue
        sign = -1.0 if gate.least else 1.0
        values = [sign * (v - gate.limit) for v in (gate.value, gate.low, gate.high) if v is not None]
        excess = max([excess, *(v / max(1.0, abs(gate.limit)) for v in values)])
    return excess


def failed(audit: Audit, fail_on: str) -> list[str]:
    """The candidates that do not pass a gate (any gate, by ``any``), with what the gate says, one line each.

    Judged is the variant that the verdict recommends; where it recommends none, every candidate.
    """
    judged = [v for v in audit.variants if v.role == CANDIDATE]
    if audit.chosen is not None:
        judged = [v for v in judged if v.name == audit.chosen]
    lines: list[str] = []
    for variant in judged:
        before = len(lines)
        against = [g for g in variant.gates if g.outcome != PASSES and fail_on in (ANY, g.gate)]
        lines += [f"{variant.name}: {g.gate} {g.outcome} ({g.detail})" for g in against]
        if variant.rejected:
            lines.append(f"{variant.name}: {variant.rejected}")
        if fail_on == ANY and len(lines) == before and variant.outcome != PASSES:
            lines.append(f"{variant.name}: {variant.outcome}, since no gate about quality was held against a figure")
    return lines
