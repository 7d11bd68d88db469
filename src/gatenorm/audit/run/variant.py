"""The variants of an audit, each with what was measured of it so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gatenorm.analysis.agreement import label
from gatenorm.audit.plan.budgets import Budget
from gatenorm.audit.plan.rankings import in_file_names
from gatenorm.families import Layout
from gatenorm.records import ATTENTION, REMOVE, Edits, Evidence, Plan, Scores
from gatenorm.records.audit import CANDIDATE, PRUNED, Role, VariantState
from gatenorm.records.evidence import Speed, of_type
from gatenorm.surgery.planning import plan_by_scores


@dataclass
class Variant:
    """One variant; ``records`` grows, ``rejected`` says why nothing more is measured of it."""

    name: str
    ranking: str
    budget: Budget
    plan: Plan
    operation: str = REMOVE
    role: Role = CANDIDATE
    state: VariantState = PRUNED
    directory: str = ""
    records: list[Evidence] = field(default_factory=list)
    rejected: str = ""

    @property
    def edited_attention(self) -> tuple[int, ...]:
        """The layers whose attention this variant edits."""
        return self.edits.attention

    @property
    def edits(self) -> Edits:
        """What was done to the audited model."""
        return self.plan.added

    def timed_in(self, engine: str) -> bool:
        """Whether an engine has timed it."""
        return any(record.protocol.engine == engine for record in of_type(self.records, Speed))

    def share(self, layout: Layout) -> float:
        return len(self.edited_attention) / len(layout.removable(ATTENTION))


def planned_variant(
    layout: Layout, scores: Scores, budget: Budget, protect: Sequence[int], role: Role, operation: str = REMOVE
) -> Variant:
    """The variant that a ranking gives at a budget, with an operation in the place of what it takes out.

    Raises:
        PlanError: a budget that the model does not allow.
    """
    name = f"{label(scores)}-{budget.count}" + (f"-{operation}" if operation != REMOVE else "")
    plan = plan_by_scores(layout, scores, budget.count, protect, operation)
    return Variant(in_file_names(name), label(scores), budget, plan, operation, role)
