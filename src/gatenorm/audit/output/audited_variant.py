"""The record of a variant: its evidence, what changed, and what the gates say of it."""

from collections.abc import Mapping, Sequence

from gatenorm.audit.judge.gates import evaluate_gate, gates, outcome_of
from gatenorm.audit.run.variant import Variant
from gatenorm.families import Layout
from gatenorm.findings import findings
from gatenorm.records import ATTENTION, Evidence
from gatenorm.records.audit import CANDIDATE, AuditedVariant, CostBenefit
from gatenorm.records.evidence import Measurements


def audited(
    layout: Layout,
    variant: Variant,
    before: Sequence[Evidence],
    limits: Mapping[str, float],
    saved: CostBenefit | None,
) -> AuditedVariant:
    """The record of a variant: its evidence, what changed, and what the gates say of it."""
    changes = findings(before, variant.records)
    results = tuple(evaluate_gate(gates()[name], limit, changes) for name, limit in limits.items())
    if variant.role != CANDIDATE:
        results = tuple(result for result in results if result.value is not None)
    return AuditedVariant(
        name=variant.name,
        criterion=variant.ranking,
        budget=variant.budget.name,
        share=variant.share(layout),
        present=len(layout.removable(ATTENTION)),
        plan=variant.plan,
        role=variant.role,
        state=variant.state,
        outcome=outcome_of(results, variant.rejected),
        gates=results,
        evidence=Measurements((*changes.after, *changes.changes)),
        rejected=variant.rejected,
        cost_benefit=saved,
        directory=variant.directory,
    )
