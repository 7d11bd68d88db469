"""From scores to a plan: which sublayers go."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from importlib.metadata import version

from gatenorm.errors import PlanError, did_you_mean
from gatenorm.families import Layout
from gatenorm.records import ATTENTION, KINDS, MLP, SINGULAR, SUBLAYERS, Edits, Plan, Scores, spans

_NAMES: dict[str, str] = {ATTENTION: "attention", MLP: "MLP"}


def count_for_share(share: float, attentions: int) -> int:
    """How many sublayers a share of ``attentions`` means: rounded half up, at least one.

    Raises:
        PlanError: a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise PlanError(f"--share {share:g} is out of range: expected a number between 0 and 1, such as 0.2")
    return max(1, math.floor(share * attentions + 0.5))


def speedup_target(text: str) -> tuple[tuple[str, ...], float]:
    """What ``--target-speedup`` asks for: of which phases (``prefill``, ``decode`` or both), and how much.

    Raises:
        PlanError: it is no number above 1, alone or behind ``prefill=`` or ``decode=``.
    """
    phase, equals, number = text.rpartition("=")
    try:
        wanted = float(number)
    except ValueError:
        wanted = 0.0
    if not 1 < wanted < 1000 or (equals and phase not in ("prefill", "decode")):
        raise PlanError(
            "speedup-wrong",
            "is no speed-up",
            field="target_speedup",
            given=text,
            expected="a number above 1 such as 1.2, prefill=1.2 or decode=1.2",
        )
    return (phase,) if equals else ("prefill", "decode"), wanted


def count_for_target(reached: Sequence[float], wanted: float, what: str) -> int:
    """The smallest number of removals that is enough.

    Args:
        reached: what removing 1, 2, ... sublayers brings, as many as can go; never falling.
        wanted: how much of it is asked for.
        what: the parameter that holds it, for the error.

    Raises:
        PlanError: removing all of them is not enough.
    """
    for count, value in enumerate(reached, start=1):
        if value >= wanted:
            return count
    most = f"removing {len(reached)} gives {reached[-1]:.4g} at most" if reached else "no layer can be removed"
    raise PlanError("out-of-reach", f"is out of reach: {most}", field=what, given=f"{wanted:g}")


def check_kind(kind: str) -> None:
    """Refuse what is no kind of sublayer.

    Raises:
        PlanError: it is none of ``attention``, ``mlp``, ``block``.
    """
    if kind not in KINDS:
        raise PlanError(f"--kind {kind} is not known; {did_you_mean(kind, KINDS)}")


def plan_by_scores(layout: Layout, scores: Scores, count: int, protect: Sequence[int] = ()) -> Plan:
    """Remove the ``count`` weakest sublayers, of the kind that the scores speak of, that are not protected.

    Args:
        scores: of this very checkpoint.
        count: how many to remove, beyond those already gone.
        protect: original indices that must stay.

    Raises:
        PlanError: scores of another checkpoint, a count that leaves no attention or no MLP, or unknown protected
            layers.
    """
    if not scores.model.same_weights(layout.identity()):
        raise PlanError(f"the scores are of {scores.model.name}, which is not this checkpoint: score it first")
    check_count(layout, count, protect, scores.kind)
    free = [i for i in scores.ranking if i not in set(protect)]
    check_drop(scores.kind, layout.layers, layout.edits, free[:count], protect)
    return _compose(layout, Edits.of(scores.kind, free[:count]), scores.kind, scores.criterion, scores, protect)


def plan_by_hand(layout: Layout, drop: Sequence[int], protect: Sequence[int] = (), kind: str = ATTENTION) -> Plan:
    """Remove the sublayers of that kind of exactly these layers (original indices).

    Raises:
        PlanError: a layer that is not there, is protected or has lost them already, or nothing would be left.
    """
    check_kind(kind)
    check_drop(kind, layout.layers, layout.edits, drop, protect)
    return _compose(layout, Edits.of(kind, drop), kind, None, None, protect)


def plan_from_file(layout: Layout, plan: Plan, protect: Sequence[int] = ()) -> Plan:
    """A plan made earlier, checked against the checkpoint that it is now to be carried out on.

    Raises:
        PlanError: it was made for another checkpoint, or cannot be carried out on this one.
    """
    check_plan(layout, plan)
    new = plan.edits - layout.edits
    _check_removal(layout, new, protect)
    return _compose(layout, new, plan.kind, plan.criterion, plan.scores, {*plan.protect, *protect})


def most_removable(layout: Layout, protect: Sequence[int] = (), kind: str = ATTENTION) -> int:
    """How many sublayers of that kind can go: not the protected ones, and one must stay."""
    there = layout.layers_with(kind)
    # A block is the last attention or the last MLP where the others of its layers' are gone.
    least = min((len(layout.layers_with(sublayer)) for sublayer in KINDS[kind]), default=0)
    return max(0, min(len(there) - len(set(protect) & set(there)), least - 1))


def check_count(layout: Layout, count: int, protect: Sequence[int] = (), kind: str = ATTENTION) -> None:
    """Refuse a number of removals that this model does not allow.

    Raises:
        PlanError: too many or too few, an unknown kind, or a protected layer that is not there.
    """
    check_kind(kind)
    unknown = [i for i in protect if i not in range(layout.layers)]
    if unknown:
        raise PlanError(f"layer {unknown[0]} cannot be protected: the layers are 0 to {layout.layers - 1}")
    there = layout.layers_with(kind)
    most = most_removable(layout, protect, kind)
    if not 1 <= count <= most:
        protected = len(set(protect) & set(there))
        have = f"{len(there)}" + (f", {protected} of them protected" if protected else "")
        # Blocks may go to the last one where layers that are none any more keep an attention and an MLP.
        have += ", and one must stay" if most < len(there) else ""
        raise PlanError(
            f"cannot remove {count} {SINGULAR[kind]}s: the model has {have}: "
            + (f"1 to {most}" if most else "none can go")
        )


def check_drop(kind: str, layers: int, gone: Edits, drop: Sequence[int], protect: Sequence[int] = ()) -> None:
    """Refuse removals that a model of ``layers`` blocks, which lacks ``gone`` already, does not allow.

    Raises:
        PlanError: none named, a layer that is not there, is protected or has nothing of that kind any more, or none
            would stay.
    """
    if not drop:
        raise PlanError("no layer to remove was named: expected original layer numbers such as 20,21")
    for layer in drop:
        if not isinstance(layer, int) or isinstance(layer, bool) or layer not in range(layers):
            raise PlanError(f"there is no layer {layer}: the layers are 0 to {layers - 1}")
        for edit in gone.at(layer):
            if edit.sublayer in KINDS[kind]:
                so_far = spans(gone.layers_of(edit.sublayer))
                raise PlanError(f"layer {layer} has lost its {_NAMES[edit.sublayer]} already; removed so far: {so_far}")
        if layer in protect:
            raise PlanError(f"layer {layer} is to be removed and to be protected: take it out of one of the two")
    for sublayer in KINDS[kind]:
        there = layers - len(gone.layers_of(sublayer))
        if len(set(drop)) >= there:
            raise PlanError(f"cannot remove all {there} {SINGULAR[sublayer]}s: at least one must stay")


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
    forgotten = layout.edits - plan.edits
    for sublayer, name in _NAMES.items():
        layers = forgotten.layers_of(sublayer)
        if layers:
            raise PlanError(f"the plan omits {name} layers that are already removed: {spans(layers)}")
    _check_removal(layout, plan.edits - layout.edits, plan.protect)


def _check_removal(layout: Layout, new: Edits, protect: Sequence[int]) -> None:
    """Both kinds of sublayers by themselves; a removal of nothing is refused as one of no attention."""
    for kind in SUBLAYERS:
        if new.layers_of(kind) or (kind == ATTENTION and not new):
            check_drop(kind, layout.layers, layout.edits, new.layers_of(kind), protect)


def _compose(
    layout: Layout, new: Edits, kind: str, criterion: str | None, scores: Scores | None, protect: Iterable[int]
) -> Plan:
    return Plan(
        model=layout.identity(),
        edits=layout.edits | new,
        criterion=criterion,
        scores=scores,
        protect=tuple(sorted(protect)),
        previous=layout.pruned.plan if layout.pruned else None,
        version=version("gatenorm"),
        kind=kind,
    )
