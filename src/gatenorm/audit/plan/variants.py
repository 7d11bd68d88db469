"""The variants of an audit: how many sublayers each loses, by which ranking, and what was measured of it so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gatenorm.analysis.agreement import label
from gatenorm.analysis.comparison import PRACTICAL
from gatenorm.audit.plan.config import Budgets
from gatenorm.audit.plan.rankings import in_file_names
from gatenorm.errors import PlanError
from gatenorm.families import Layout
from gatenorm.models.named import language_of
from gatenorm.records import ATTENTION, REMOVE, Edits, Evidence, Plan, Scores
from gatenorm.records.audit import CANDIDATE, PRUNED, NotExamined, Setting, StepName
from gatenorm.speed.predict.targets import Target, smallest_removal
from gatenorm.surgery.folding import check_foldable
from gatenorm.surgery.operation import check_operation, operation_named
from gatenorm.surgery.planning import check_count, count_for_share, plan_by_scores

# Up to which share a budget has which name; beyond the last it is a fine-tuning project.
_NAMES = ((0.15, "conservative"), (0.3, "practical"), (0.5, "aggressive"))
ADAPTATION, ASKED = "adaptation", "asked"
# What candidates have in the place of sublayers where the configuration does not say.
OPERATIONS = (REMOVE, "linear")


@dataclass(frozen=True)
class Budget:
    """A number of sublayers, its name, and the operations that take their place, one candidate each."""

    count: int
    name: str
    operations: tuple[str, ...] = (REMOVE,)


def budget_name(share: float) -> str:
    """What a share of the attention sublayers is called."""
    return next((name for limit, name in _NAMES if share < limit), ADAPTATION)


def budgets(layout: Layout, settings: Budgets, protect: tuple[int, ...]) -> tuple[list[Budget], list[NotExamined]]:
    """All budgets, the smallest first, each number once; and the shares that this model does not allow.

    Raises:
        PlanError: a number that this model does not allow, or a target out of reach.
        EvaluationError: an unknown machine, or nothing that could be predicted.
    """
    present = len(layout.removable(ATTENTION))
    by_count: dict[int, str] = {}
    left_out = []
    for share in settings.shares:
        count = count_for_share(share, present)
        try:
            check_count(layout, count, protect)
        except PlanError as error:
            left_out.append(NotExamined(StepName.BUILD, f"a budget of {share:.1%}", str(error)))
            continue
        by_count.setdefault(count, budget_name(count / present))
    for count in settings.layers:
        check_count(layout, count, protect)
        by_count.setdefault(count, ASKED)
    if settings.target_speedup is not None or settings.max_cache_gb is not None:
        count = _count_for_targets(layout, settings, protect)
        if count:
            by_count.setdefault(count, ASKED)
    return [Budget(count, by_count[count]) for count in sorted(by_count)], left_out


def _count_for_targets(layout: Layout, settings: Budgets, protect: tuple[int, ...]) -> int:
    """How many sublayers meet the targets whichever operation takes their place; 0 where the cache fits as it is.

    What was not asked for, and cannot reach the target, does not count.
    """
    speedup = None if settings.target_speedup is None else str(settings.target_speedup)
    target = Target(speedup, settings.max_cache_gb, settings.machine, settings.context, settings.batch)
    counts = []
    for operation in settings.replace or OPERATIONS:
        try:
            fewest = smallest_removal(layout, target, protect, operation=operation)
        except PlanError:
            if settings.replace or operation == REMOVE:
                raise
            continue
        counts.append(fewest.count if fewest is not None else 0)
    return max(counts)


def with_operations(
    possible: Sequence[Budget], layout: Layout, asked: Sequence[str] | None, *, runs: bool
) -> tuple[list[Budget], list[NotExamined]]:
    """The budgets with the operations of their candidates, and what was left out.

    Where none were ``asked`` for they are :data:`OPERATIONS`; a model with a language of its own, whose audit is to be
    short, gets others than removal only at the budget where rankings are judged.

    Raises:
        PlanError: an operation that is not known, is not for attentions, cannot be fitted, or that needs a model that
            can be run.
    """
    fitted = [name for name in asked or OPERATIONS if name != REMOVE]
    for name in fitted:
        check_operation(name, ATTENTION)
        check_foldable(layout.data, name)
        operation = operation_named(name)
        operation.shapes(layout.width)
        if operation.fit is None:
            raise PlanError("operation-not-fitted", "cannot be fitted", field="replace", given=name)
        if asked and not runs:
            raise PlanError("model-not-run", "needs a model that can be run", field="replace", given=name)
    if asked:
        return [replace(budget, operations=tuple(dict.fromkeys(asked))) for budget in possible], []
    if not runs:
        what = f"{' and '.join(fitted)} in place of attentions"
        return list(possible), [NotExamined(StepName.BUILD, what, "the model cannot be run")]
    counts = [budget.count for budget in possible]
    if language_of(layout.checkpoint) is not None:
        counts = [decision_count(counts, len(layout.removable(ATTENTION)))]
    others = [str(budget.count) for budget in possible if budget.count not in counts]
    missing = []
    if others:
        what = f"{' and '.join(fitted)} in place of {' and '.join(others)} attentions"
        why = f"the audit of a model with a language of its own has that at one budget ({counts[0]}), to stay short"
        setting = Setting("budgets.replace", f"[{', '.join(OPERATIONS)}]")
        missing.append(NotExamined.unless(StepName.BUILD, what, why, setting))
    return [replace(b, operations=OPERATIONS if b.count in counts else (REMOVE,)) for b in possible], missing


def decision_count(counts: list[int], present: int) -> int:
    """The budget at which rankings are judged: the one nearest to 20%, the smaller of two."""
    return min(counts, key=lambda count: (abs(count / present - PRACTICAL), count))


@dataclass
class Variant:
    """One variant; ``records`` grows, ``rejected`` says why nothing more is measured of it."""

    name: str
    ranking: str
    budget: Budget
    plan: Plan
    operation: str = REMOVE
    role: str = CANDIDATE
    state: str = PRUNED
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

    def share(self, layout: Layout) -> float:
        return len(self.edited_attention) / len(layout.removable(ATTENTION))


def planned_variant(
    layout: Layout, scores: Scores, budget: Budget, protect: Sequence[int], role: str, operation: str = REMOVE
) -> Variant:
    """The variant that a ranking gives at a budget, with an operation in the place of what it takes out.

    Raises:
        PlanError: a budget that the model does not allow.
    """
    name = f"{label(scores)}-{budget.count}" + (f"-{operation}" if operation != REMOVE else "")
    plan = plan_by_scores(layout, scores, budget.count, protect, operation)
    return Variant(in_file_names(name), label(scores), budget, plan, operation, role)
