"""Choosing sublayers of both kinds by what they cost and what they save, under a budget."""

from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec import structs

from gatenorm.errors import PlanError
from gatenorm.families import Layout
from gatenorm.records import ANY, REMOVE, SUBLAYERS, Edit, Edits, Plan, Scores, Sublayer
from gatenorm.surgery.folding import check_foldable, check_folds
from gatenorm.surgery.operation import operation_named
from gatenorm.surgery.planning import check_edits, compose


def alternatives(layout: Layout, operation: str, protect: Collection[int] = ()) -> Edits:
    """The edit that may be made of every sublayer that is there: the operation, or removal where it has no place.

    A linear map takes no MLP's place, and a fold needs an MLP that carries it.

    Raises:
        PlanError: an unknown operation, or one that is impossible in this family.
    """
    check_foldable(layout.data, operation)
    named = operation_named(operation)

    def edit(layer: int, sublayer: Sublayer) -> Edit:
        wanted = Edit(layer, sublayer, operation)
        fits = sublayer in named.sublayers and is_possible(layout, Edits([wanted]))
        return wanted if fits else Edit(layer, sublayer, REMOVE)

    return Edits(
        edit(layer, sublayer) for sublayer in SUBLAYERS for layer in layout.removable(sublayer) if layer not in protect
    )


def is_possible(layout: Layout, new: Edits) -> bool:
    """Whether a checkpoint allows new edits: one sublayer of each kind stays, and MLPs that carry folds do."""
    try:
        check_edits(layout.layers, layout.edits, new)
        check_folds(layout.data, layout.edits, new)
    except PlanError:
        return False
    return True


def by_damage(damage: Mapping[Edit, float], saved: Mapping[Edit, float]) -> list[Edit]:
    """The order of ``damage / saved``, lowest first; what saves nothing comes last, the least damaging first.

    What damages nothing goes before all else, the most useful first: dividing would put the least useful first.
    """

    def order(edit: Edit) -> tuple[bool, float, int]:
        value, gain = damage[edit], saved[edit]
        ratio = value if gain <= 0 else value / gain if value > 0 else value * gain
        return gain <= 0, ratio, -edit.layer

    return sorted(damage, key=order)


def cheapest(
    damage: Mapping[Edit, float],
    saved: Mapping[Edit, float],
    enough: Callable[[Edits], bool],
    possible: Callable[[Edits], bool],
) -> Edits | None:
    """Edits that save enough for little damage: the greedy solution of a knapsack (of its covering form).

    Taken in the order of :func:`by_damage` until they are enough; then those that were not needed are put back, the
    most damaging first. Where that order ends short of the budget, since one sublayer of a kind must stay and the most
    useful one did, they are taken by what they save. What saves nothing is never taken. Damages are added up, though
    sublayers that go together may cost more than each alone.

    Args:
        damage: of each edit that may be made, on a scale of its own.
        saved: of what the budget is about, on any scale.
        enough: whether some edits meet the budget; more of them always do.
        possible: whether some edits can be made together; fewer of them always can.

    Returns:
        ``None`` where all that can go is not enough.

    Source: Dantzig, "Discrete-variable extremum problems" (1957), for the order by ratio.
    """

    def taken_from(order: Iterable[Edit]) -> list[Edit]:
        taken: list[Edit] = []
        for edit in order:
            if saved[edit] > 0 and not enough(Edits(taken)) and possible(Edits([*taken, edit])):
                taken.append(edit)
        return taken

    orders = by_damage(damage, saved), sorted(damage, key=lambda one: -saved[one])
    taken = next((found for found in map(taken_from, orders) if enough(Edits(found))), None)
    if taken is None:
        return None
    for edit in sorted(taken, key=lambda one: -damage[one]):
        rest = [one for one in taken if one != edit]
        if damage[edit] > 0 and enough(Edits(rest)):
            taken = rest
    return Edits(taken)


def plan_by_damage(
    layout: Layout, edits: Edits, scores: Scores, mlp_scores: Scores, protect: Collection[int] = ()
) -> Plan:
    """Edits that were chosen among attention and MLP sublayers, by these scores of either."""
    check_edits(layout.layers, layout.edits, edits, protect)
    return structs.replace(compose(layout, edits, ANY, scores.criterion, scores, protect), mlp_scores=mlp_scores)
