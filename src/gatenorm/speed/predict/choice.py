"""Attention and MLP sublayers in one ranking: which to edit for a budget of sublayers, of time or of cache."""

from __future__ import annotations

from collections.abc import Mapping

from gatenorm.errors import PlanError
from gatenorm.families import Layout
from gatenorm.models.architecture import Architecture, Work
from gatenorm.records import ATTENTION, SUBLAYERS, Edit, Edits
from gatenorm.speed.predict.cost_model import check_runs, predict
from gatenorm.speed.predict.targets import Target, contexts, machine_of
from gatenorm.surgery.selection import cheapest

_PHASES = ("prefill", "decode")


def choose(layout: Layout, damage: Mapping[Edit, float], count: int | None, target: Target) -> Edits:
    """The edits that do little damage for what they save, see :func:`gatenorm.surgery.selection.cheapest`: ``count`` of
    them, or enough for the target.

    An edit saves its part of the time of a pass, summed over the phases that the target names (both by default); where
    the budget is of cache alone, its part of the cache, which MLPs have none of.

    Raises:
        PlanError: a budget that is none, or out of reach.
        EvaluationError: an unknown machine, or a checkpoint that is no whole model.
    """
    phases, wanted, limit = target.parsed()
    counted, length, batch = Architecture.of(layout), contexts(layout, target.context)[0], target.batch
    check_runs(counted)
    machine = machine_of(layout, target.machine)
    works = {"prefill": Work.prefill(length, batch), "decode": Work.decode(length, batch)}
    times = {phase: predict(counted, machine, work) for phase, work in works.items()}

    def saved(edit: Edit) -> float:
        if limit is not None and not phases:
            return float(counted.cached_tokens(edit.layer, length)) if edit.sublayer == ATTENTION else 0.0
        return sum(times[phase].saved(edit) / times[phase].total for phase in phases or _PHASES)

    def enough(edits: Edits) -> bool:
        if count is not None:
            return len(edits) >= count
        fast = all(times[phase].speedup_with(edits) >= wanted for phase in phases)
        return fast and (limit is None or counted.cache_bytes(length, batch, without=edits.attention) <= limit)

    present = {kind: len(layout.layers_with(kind)) for kind in SUBLAYERS}
    found = cheapest(damage, {edit: saved(edit) for edit in damage}, enough, present)
    if found is None:
        asked = {"layers": count, "target_speedup": target.speedup, "max_cache_gb": target.cache_gb}
        field, given = next((name, value) for name, value in asked.items() if value is not None)
        raise PlanError("out-of-reach", "is out of reach, whichever sublayers go", field=field, given=given)
    return found
