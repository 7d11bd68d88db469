"""The variants of an audit while it is at work: candidates, which may be chosen, and comparisons, which may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gatenorm.analysis.agreement import label
from gatenorm.audit.plan.budgets import Budget
from gatenorm.audit.plan.rankings import in_file_names
from gatenorm.families import Layout
from gatenorm.records import Evidence, Plan, Scores
from gatenorm.records.audit import CANDIDATE, PRUNED
from gatenorm.surgery.planning import plan_by_scores


@dataclass
class Variant:
    """One variant; ``records`` grows, ``rejected`` says why nothing more is measured of it."""

    name: str
    ranking: str
    budget: Budget
    plan: Plan
    role: str = CANDIDATE
    state: str = PRUNED
    directory: str = ""
    records: list[Evidence] = field(default_factory=list)
    rejected: str = ""

    @property
    def drop(self) -> tuple[int, ...]:
        """What this variant lacks and the audited model has."""
        return self.plan.added.attention

    def share(self, layout: Layout) -> float:
        return len(self.drop) / len(layout.attention_layers)


def planned_variant(layout: Layout, scores: Scores, budget: Budget, protect: Sequence[int], role: str) -> Variant:
    """The variant that a ranking gives at a budget.

    Raises:
        PlanError: a budget that the model does not allow.
    """
    name = in_file_names(f"{label(scores)}-{budget.count}")
    return Variant(name, label(scores), budget, plan_by_scores(layout, scores, budget.count, protect), role)
