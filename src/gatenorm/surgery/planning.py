"""From scores to a plan: which attention sublayers go."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from importlib.metadata import version

from gatenorm.errors import PlanError
from gatenorm.families import Layout
from gatenorm.records import Plan, Scores, spans


def count_for_share(share: float, attentions: int) -> int:
    """How many sublayers a share of ``attentions`` means: rounded half up, at least one.

    Raises:
        PlanError: a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise PlanError(f"--share {share:g} is out of range: expected a number between 0 and 1, such as 0.2")
    return max(1, math.floor(share * attentions + 0.5))


def count_for_target(reached: Sequence[float], wanted: float, what: str) -> int:
    """The smallest number of removals that is enough.

    Args:
        reached: what removing 1, 2, ... sublayers brings, as many as can go; never falling.
        wanted: how much of it is asked for.
        what: that quantity's name, for the error.

    Raises:
        PlanError: removing all of them is not enough.
    """
    for count, value in enumerate(reached, start=1):
        if value >= wanted:
            return count
    most = f"removing {len(reached)} gives {reached[-1]:.4g} at most" if reached else "no layer can be removed"
    raise PlanError(f"{what} {wanted:g} is out of reach: {most}")


def plan_by_scores(layout: Layout, scores: Scores, count: int, protect: Sequence[int] = ()) -> Plan:
    """Remove the ``count`` weakest attention sublayers that are not protected.

    Args:
        scores: of this very checkpoint.
        count: how many to remove, beyond those already gone.
        protect: original indices that must stay.

    Raises:
        PlanError: scores of another checkpoint, a count that leaves no attention, or unknown protected layers.
    """
    if not scores.model.same_weights(layout.identity()):
        raise PlanError(f"the scores are of {scores.model.name}, which is not this checkpoint: score it first")
    check_count(layout, count, protect)
    free = [i for i in scores.ranking if i not in set(protect)]
    return _compose(layout, free[:count], scores.criterion, scores, protect)


def plan_by_hand(layout: Layout, drop: Sequence[int], protect: Sequence[int] = ()) -> Plan:
    """Remove the attention of exactly these layers (original indices).

    Raises:
        PlanError: a layer that is not there, is protected or has no attention any more, or nothing would be left.
    """
    check_drop(layout.layers, layout.drop, drop, protect)
    return _compose(layout, drop, None, None, protect)


def plan_from_file(layout: Layout, plan: Plan, protect: Sequence[int] = ()) -> Plan:
    """A plan made earlier, checked against the checkpoint that it is now to be carried out on.

    Raises:
        PlanError: it was made for another checkpoint, or cannot be carried out on this one.
    """
    check_plan(layout, plan)
    new = [i for i in plan.drop if i not in layout.drop]
    check_drop(layout.layers, layout.drop, new, protect)
    return _compose(layout, new, plan.criterion, plan.scores, {*plan.protect, *protect})


def check_count(layout: Layout, count: int, protect: Sequence[int] = ()) -> None:
    """Refuse a number of removals that this model does not allow.

    Raises:
        PlanError: too many or too few, or a protected layer that is not there.
    """
    unknown = [i for i in protect if i not in range(layout.layers)]
    if unknown:
        raise PlanError(f"layer {unknown[0]} cannot be protected: the layers are 0 to {layout.layers - 1}")
    there = layout.attention_layers
    protected = len(set(protect) & set(there))
    most = min(len(there) - protected, len(there) - 1)
    if not 1 <= count <= most:
        have = f"{len(there)}" + (f", {protected} of them protected" if protected else "")
        raise PlanError(
            f"cannot remove {count} attention sublayers: the model has {have}, and one must stay: 1 to {most}"
        )


def check_drop(layers: int, gone: Sequence[int], drop: Sequence[int], protect: Sequence[int] = ()) -> None:
    """Refuse removals that a model of ``layers`` blocks, of which ``gone`` have lost their attention, does not allow.

    Raises:
        PlanError: none named, a layer that is not there, is protected or has no attention any more, or none would stay.
    """
    if not drop:
        raise PlanError("no layer to remove was named: expected original layer numbers such as 20,21")
    for layer in drop:
        if not isinstance(layer, int) or isinstance(layer, bool) or layer not in range(layers):
            raise PlanError(f"there is no layer {layer}: the layers are 0 to {layers - 1}")
        if layer in gone:
            raise PlanError(f"layer {layer} has lost its attention already; removed so far: {spans(gone)}")
        if layer in protect:
            raise PlanError(f"layer {layer} is to be removed and to be protected: take it out of one of the two")
    if len(set(drop)) >= layers - len(gone):
        raise PlanError(f"cannot remove all {layers - len(gone)} attention sublayers: at least one must stay")


def check_plan(layout: Layout, plan: Plan) -> None:
    """Refuse a plan that cannot be carried out on this checkpoint.

    Raises:
        PlanError: it was made for another checkpoint, forgets what is gone already, or asks for what is not there.
    """
    if not plan.model.same_weights(layout.identity()):
        raise PlanError(
            f"the plan was made for {plan.model.name} ({plan.model.layers} layers, config "
            f"{plan.model.config_sha256[:8]}), this is another checkpoint: make a plan for it, or name the layers"
        )
    forgotten = set(layout.drop) - set(plan.drop)
    if forgotten:
        raise PlanError(f"the plan forgets that layers {spans(sorted(forgotten))} have lost their attention already")
    check_drop(layout.layers, layout.drop, [i for i in plan.drop if i not in layout.drop], plan.protect)


def _compose(
    layout: Layout, new: Sequence[int], criterion: str | None, scores: Scores | None, protect: Iterable[int]
) -> Plan:
    previous = layout.checkpoint.config.get("gatenorm", {}).get("plan") if layout.drop else None
    return Plan(
        model=layout.identity(),
        drop=tuple(sorted({*layout.drop, *new})),
        criterion=criterion,
        scores=scores,
        protect=tuple(sorted(protect)),
        previous=Plan.from_json(previous) if previous else None,
        version=version("gatenorm"),
    )
