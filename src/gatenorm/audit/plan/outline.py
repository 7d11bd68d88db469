"""What an audit is about to do, in a few lines: shown before anything long begins."""

from __future__ import annotations

from collections.abc import Iterator

from gatenorm.audit.plan.prepare import AuditPlan
from gatenorm.report.page.wording import size


def memory(weights: int) -> int:
    """Bytes that a process takes with a model of so many bytes of weights.

    These may be stored in half the width that they are computed in; the rest are libraries and activations.
    """
    return 2 * weights + (500 << 20)


def outline(plan: AuditPlan) -> Iterator[str]:
    """A line for each part of the work, then what it takes of disk and memory."""
    names = [one.name for one in plan.rankings]
    yield f"rank the layers {len(names)} times: {', '.join(names)}"
    tested = sum(not one.baseline and not one.check for one in plan.rankings)
    made = tested * sum(len(budget.operations) for budget in plan.budgets)
    counts = ", ".join(str(budget.count) for budget in plan.budgets)
    yield f"write {made} candidates, or more if another ranking is better supported: {counts} attention sublayers"
    for one in plan.evaluations:
        limit = one.request.limit
        yield f"measure {one.name} of each" + (f" (limit {limit})" if limit else "")
    speed = plan.config.speed
    if speed.engines:
        lengths = ", ".join(f"{n:,}" for n in speed.lengths) or "up to 2,048"
        yield f"time each in {' and '.join(speed.engines)}: prompts of {lengths} tokens, {speed.rounds} rounds"
    weights = plan.layout.nbytes
    yield f"takes up to {size(made * weights)} of disk and {size(memory(weights))} of memory for each model at work"
