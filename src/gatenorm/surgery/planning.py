"""From scores to a plan: which sublayers are edited."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version

from msgspec import structs

from gatenorm.errors import PlanError
from gatenorm.families import Layout
from gatenorm.records import ATTENTION, KINDS, NAMES, REMOVE, SINGULAR, SUBLAYERS, Edits, Plan, Scores, spans
from gatenorm.records.numbers import share_of
from gatenorm.surgery.folding import check_folds, folds
from gatenorm.surgery.operation import check_operation


def count_for_share(share: float | str, sublayers: int) -> int:
    """How many sublayers a share of so many means (``0.2``, or as text ``20%``): rounded half up, at least one.

    Raises:
        PlanError: no number, or a share outside (0, 1).
    """
    number = math.nan
    with suppress(ValueError):
        number = share_of(share)
    if not 0 < number < 1:
        given = share if isinstance(share, str) else f"{share:g}" if isinstance(share, (int, float)) else repr(share)
        expected = "a number between 0 and 1, such as 0.2, or 20%"
        hint = f"{number:g}% is {number / 100:g}" if 1 <= number < 100 and not isinstance(share, bool) else ""
        raise PlanError.out_of_range("share", given, expected, hint=hint)
    return max(1, math.floor(number * sublayers + 0.5))


def check_kind(kind: str, known: Collection[str] = KINDS) -> None:
    """Raise PlanError for what is no kind of sublayer: ``attention``, ``mlp``, ``block``."""
    if kind not in known:
        raise PlanError.unknown("kind", kind, known)


def plan_by_scores(
    layout: Layout, scores: Scores, count: int, protect: Sequence[int] = (), operation: str = REMOVE
) -> Plan:
    """Edit the ``count`` weakest sublayers, of the kind that was scored, that are not protected.

    Args:
        scores: of this very checkpoint.
        count: how many to edit, beyond those edited before.
        protect: original layers that must stay.
        operation: what takes their place.

    Raises:
        PlanError: scores of another checkpoint, a count that leaves no attention or no MLP, or unknown protected
            layers.
    """
    if not scores.model.same_weights(layout.identity()):
        problem = f"are of {scores.model.name}, which is not this checkpoint"
        raise PlanError("scores-of-another-model", problem, field="scores", hint="score it first")
    check_count(layout, count, protect, scores.kind)
    new = edits_of(scores.kind, scores.weakest(count, protect), layout.layers, operation)
    _check_new(layout, new, protect)
    return compose(layout, new, scores.kind, scores.criterion, scores, protect)


def plan_by_hand(
    layout: Layout,
    drop: Sequence[int],
    protect: Sequence[int] = (),
    kind: str = ATTENTION,
    operation: str = REMOVE,
) -> Plan:
    """Edit the sublayers of that kind of exactly these original layers.

    Raises:
        PlanError: a layer that is not there, is protected or has lost them already, or nothing would be left.
    """
    new = edits_of(kind, drop, layout.layers, operation)
    _check_new(layout, new, protect)
    return compose(layout, new, kind, None, None, protect)


def plan_from_file(layout: Layout, plan: Plan, protect: Sequence[int] = ()) -> Plan:
    """A plan made earlier, checked against the checkpoint that it is now to be carried out on.

    Raises:
        PlanError: it was made for another checkpoint, or cannot be carried out on this one.
    """
    check_plan(layout, plan, protect)
    # Tensors are fitted anew: a plan names those of its operations, and does not hold them.
    new = Edits(structs.replace(edit, artifact=None) for edit in plan.edits - layout.edits)
    made = compose(layout, new, plan.kind, plan.criterion, plan.scores, {*plan.protect, *protect})
    return structs.replace(made, mlp_scores=plan.mlp_scores)


def most_removable(layout: Layout, protect: Sequence[int] = (), kind: str = ATTENTION) -> int:
    """How many sublayers of that kind can go: not the protected ones, and one must stay."""
    there = layout.removable(kind)
    # A block is the last attention or the last MLP where the others of its layers' are gone.
    least = min((len(layout.removable(sublayer)) for sublayer in KINDS[kind]), default=0)
    return max(0, min(len(there) - len(set(protect) & set(there)), least - 1))


def check_count(layout: Layout, count: int, protect: Sequence[int] = (), kind: str = ATTENTION) -> None:
    """Raise PlanError for a number of removals that this model does not allow, an unknown kind, or a protected layer
    that is not there.
    """
    check_kind(kind)
    unknown = [i for i in protect if i not in range(layout.layers)]
    if unknown:
        problem = "does not exist"
        expected = f"layers 0 to {layout.layers - 1}"
        raise PlanError("protected-layer-unknown", problem, field="protect", given=unknown[0], expected=expected)
    there = layout.removable(kind)
    most = most_removable(layout, protect, kind)
    if not 1 <= count <= most:
        protected = len(set(protect) & set(there))
        have = f"{len(there)} {SINGULAR[kind]}s" + (f", {protected} of them protected" if protected else "")
        # Blocks may go to the last one where layers that are none any more keep an attention and an MLP.
        have += ", and one must stay" if most < len(there) else ""
        problem = f"cannot be removed: the model has {have}"
        expected = f"1 to {most}" if most else "a model of which some can go"
        raise PlanError("count-out-of-range", problem, field="layers", given=count, expected=expected)


def edits_of(kind: str, drop: Collection[int], layers: int, operation: str = REMOVE) -> Edits:
    """The edits of that kind of sublayer in the layers ``drop`` of a model that has ``layers`` of them.

    Raises:
        PlanError: an unknown kind, no layer, or one that does not exist.
    """
    check_kind(kind)
    for layer in drop:
        if not isinstance(layer, int) or isinstance(layer, bool) or layer not in range(layers):
            raise PlanError(
                "layer-unknown", "does not exist", field="drop", given=layer, expected=f"layers 0 to {layers - 1}"
            )
    return Edits.of(kind, drop, operation)


def check_edits(layers: int, before: Edits, new: Edits, protect: Collection[int] = ()) -> None:
    """Raise PlanError for new edits that a model of ``layers`` layers, which has the edits ``before``, does not allow.

    There are none, an operation is unknown, a layer does not exist, is protected or was edited there before, or no
    sublayer of a kind would stay.
    """
    if not new:
        raise PlanError("layers-missing", "names no layer", field="drop", expected="layers such as 20,21")
    for edit in new:
        check_operation(edit.operation, edit.sublayer)
        if edit.layer not in range(layers):
            raise PlanError(
                "layer-unknown", "does not exist", field="drop", given=edit.layer, expected=f"layers 0 to {layers - 1}"
            )
        edited = before.layers_of(edit.sublayer)
        if edit.layer in edited:
            problem = f"has lost its {NAMES[edit.sublayer]} already; removed so far: {spans(edited)}"
            raise PlanError("layer-edited-before", problem, field="drop", given=edit.layer)
        if edit.layer in protect:
            hint = "take it out of one of the two"
            raise PlanError("layer-protected", "is to be removed too", field="protect", given=edit.layer, hint=hint)
    for sublayer in SUBLAYERS:
        present = layers - len(before.layers_of(sublayer))
        if len(new.layers_of(sublayer)) >= present:
            problem = f"would take all {present} {SINGULAR[sublayer]}s: at least one must stay"
            raise PlanError("none-would-stay", problem, field="drop")


def check_key_sources(sources: Mapping[int, int], after: Edits) -> None:
    """Refuse to take the attention of a layer whose keys and values another one reads.

    Args:
        sources: by layer without keys and values of its own, whose it reads.

    Raises:
        PlanError: which layers read them.
    """
    for source in set(sources.values()) & {*after.attention}:
        reading = [layer for layer, read in sources.items() if read == source and layer not in after.attention]
        if reading:
            problem = f"makes the keys and values that layers {spans(reading)} read"
            raise PlanError("attention-shared", problem, field="drop", given=source, expected="another layer")


def check_plan(layout: Layout, plan: Plan, protect: Iterable[int] = ()) -> None:
    """Raise PlanError for a plan that cannot be carried out on this checkpoint: it was made for another one, omits
    earlier edits, or asks for what is not there or is to be kept.
    """
    if not plan.model.same_weights(layout.identity()):
        raise PlanError(
            "plan-of-another-model",
            f"was made for {plan.model.name} ({plan.model.layers} layers, config "
            f"{plan.model.config_sha256[:8]}), this is another checkpoint",
            field="plan",
            hint="make a plan for it, or name the layers",
        )
    omitted = layout.edits - plan.edits
    for sublayer, name in NAMES.items():
        if omitted.layers_of(sublayer):
            problem = f"omits {name} layers that are already removed: {spans(omitted.layers_of(sublayer))}"
            raise PlanError("plan-omits-edits", problem, field="plan")
    _check_new(layout, plan.edits - layout.edits, {*plan.protect, *protect})


def _check_new(layout: Layout, new: Edits, protect: Collection[int]) -> None:
    check_edits(layout.layers, layout.edits, new, protect)
    for sublayer in SUBLAYERS:
        there = layout.attention_layers if sublayer == ATTENTION else layout.removable(sublayer)
        named = new.layers_of(sublayer)
        absent = [layer for layer in named if layer not in there]
        if absent:
            expected = f"one of layers {spans(there)}" if there else "another kind: no layer has one of its own"
            problem = f"has no {SINGULAR[sublayer]}"
            raise PlanError("sublayer-missing", problem, field="drop", given=absent[0], expected=expected)
        if there and len(named) == len(there):
            problem = f"would take all {len(there)} {SINGULAR[sublayer]}s: at least one must stay"
            raise PlanError("none-would-stay", problem, field="drop")
    check_key_sources(layout.key_sources, layout.edits | new)
    check_folds(layout.data, layout.edits, new)
    for edit in folds(new) if layout.checkpoint.quantised_by else ():
        raise PlanError(
            "fold-quantised",
            f"cannot be added to weights that are quantised by {layout.checkpoint.quantised_by}",
            field="replace",
            given=edit.operation,
            hint="take the unquantised model",
        )


def compose(
    layout: Layout, new: Edits, kind: str, criterion: str | None, scores: Scores | None, protect: Iterable[int]
) -> Plan:
    """The plan with new edits beside those that the checkpoint has."""
    return Plan(
        model=layout.identity(),
        edits=layout.edits | new,
        criterion=criterion,
        scores=scores,
        protect=tuple(sorted(protect)),
        previous=layout.pruned.plan.alone if layout.pruned else None,
        version=version("gatenorm"),
        kind=kind,
    )
