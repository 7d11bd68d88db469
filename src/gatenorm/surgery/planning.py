"""From scores to a plan: which attention sublayers go."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    unknown = [i for i in protect if i not in range(layout.layers)]
    if unknown:
        raise PlanError(f"--protect names layer {unknown[0]}, but the layers are 0 to {layout.layers - 1}")
    free = [i for i in scores.ranking if i not in set(protect)]
    most = min(len(free), len(layout.attention_layers) - 1)
    if not 1 <= count <= most:
        have = f"{len(layout.attention_layers)} attention sublayers"
        if protect:
            have += f", {len(layout.attention_layers) - len(free)} of them protected"
        raise PlanError(
            f"cannot remove {count} attention sublayers: the model has {have}, and one must stay: 1 to {most}"
        )
    return _compose(layout, free[:count], scores.criterion, scores, protect)


def plan_by_hand(layout: Layout, drop: Sequence[int]) -> Plan:
    """Remove the attention of exactly these layers (original indices).

    Raises:
        PlanError: a layer that is not there or has no attention any more, or nothing would be left.
    """
    if not drop:
        raise PlanError("no layer to remove was named: expected indices such as --drop 20,21")
    for layer in drop:
        if layer not in range(layout.layers):
            raise PlanError(f"there is no layer {layer}: the layers are 0 to {layout.layers - 1}")
        if layer in layout.drop:
            raise PlanError(f"layer {layer} has lost its attention already; removed so far: {spans(layout.drop)}")
    if len(set(drop)) >= len(layout.attention_layers):
        raise PlanError(f"cannot remove all {len(layout.attention_layers)} attention sublayers: at least one must stay")
    return _compose(layout, drop, None, None, ())


def plan_from_file(layout: Layout, plan: Plan) -> Plan:
    """A plan made earlier, checked against the checkpoint that it is now to be carried out on.

    Raises:
        PlanError: it was made for another checkpoint, or cannot be carried out on this one.
    """
    if not plan.model.same_weights(layout.identity()):
        raise PlanError(
            f"the plan was made for {plan.model.name} ({plan.model.layers} layers, config "
            f"{plan.model.config_sha256[:8]}), this is another checkpoint: make a plan for it, or use --drop"
        )
    return _compose(layout, plan_by_hand(layout, plan.new).new, plan.criterion, plan.scores, plan.protect)


def _compose(
    layout: Layout, new: Sequence[int], criterion: str | None, scores: Scores | None, protect: Sequence[int]
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
