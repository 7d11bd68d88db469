"""Choosing sublayers of both kinds by what they cost and what they save, under a budget."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import structs

from gatenorm.families import Layout
from gatenorm.records import ANY, SUBLAYERS, Edit, Edits, Plan, Scores, Sublayer
from gatenorm.surgery.planning import check_edits, compose


def cheapest(
    damage: Mapping[Edit, float],
    saved: Mapping[Edit, float],
    enough: Callable[[Edits], bool],
    present: Mapping[Sublayer, int],
) -> Edits | None:
    """Edits that save enough for little damage: the greedy solution of a knapsack (of its covering form).

    Taken in the order of ``damage / saved``, lowest first, until they are enough; then those that were not needed are
    put back, the most damaging first. What damages nothing goes before all else, the most useful first. What saves
    nothing is never taken. Damages are added up, though sublayers that go together may cost more than each alone.

    Args:
        damage: of each edit that may be made, on a scale of its own.
        saved: of what the budget is about, on any scale.
        enough: whether some edits meet the budget; more of them always do.
        present: how many sublayers of each kind there are; one of each stays.

    Returns:
        ``None`` where all that can go is not enough.

    Source: Dantzig, "Discrete-variable extremum problems" (1957), for the order by ratio.
    """

    def order(edit: Edit) -> tuple[float, int]:
        value = damage[edit]
        # Of what does the model good, dividing by the saving would put the least useful first.
        return (value / saved[edit] if value > 0 else value * saved[edit]), -edit.layer

    taken: list[Edit] = []
    for edit in sorted((one for one in damage if saved[one] > 0), key=order):
        if enough(Edits(taken)):
            break
        if _stays(present, [*taken, edit]):
            taken.append(edit)
    if not enough(Edits(taken)):
        return None
    for edit in sorted(taken, key=lambda one: -damage[one]):
        rest = [one for one in taken if one != edit]
        if damage[edit] > 0 and enough(Edits(rest)):
            taken = rest
    return Edits(taken)


def plan_by_damage(
    layout: Layout, edits: Edits, scores: Scores, mlp_scores: Scores, protect: Sequence[int] = ()
) -> Plan:
    """Edits that were chosen among attention and MLP sublayers, by these scores of either.

    Raises:
        PlanError: as :func:`gatenorm.surgery.planning.check_edits`.
    """
    check_edits(layout.layers, layout.edits, edits, protect)
    return structs.replace(compose(layout, edits, ANY, scores.criterion, scores, protect), mlp_scores=mlp_scores)


def _stays(present: Mapping[Sublayer, int], taken: Collection[Edit]) -> bool:
    return all(sum(edit.sublayer == kind for edit in taken) < present[kind] for kind in SUBLAYERS)
