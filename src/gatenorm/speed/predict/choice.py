"""Attention and MLP sublayers in one ranking: which to edit for a budget of sublayers, of time or of cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gatenorm.errors import PlanError
from gatenorm.families import Layout
from gatenorm.models.architecture import Architecture, Work
from gatenorm.records import ANY, ATTENTION, SUBLAYERS, Edit, Edits
from gatenorm.speed.predict.cost_model import Forecast, check_runs, predict
from gatenorm.speed.predict.machines import DEFAULT
from gatenorm.speed.predict.targets import check_targets, contexts, machine_of
from gatenorm.surgery.selection import cheapest

_PHASES = ("prefill", "decode")


@dataclass(frozen=True)
class Budget:
    """How much is to be saved: ``count`` sublayers, or targets, by predictions for a machine, context and batch."""

    count: int | None = None
    target_speedup: str | None = None
    max_cache_gb: float | None = None
    machine: str = DEFAULT
    context: int | None = None
    batch: int = 1


def choose(layout: Layout, damage: Mapping[Edit, float], budget: Budget) -> tuple[Edits, Forecast]:
    """The edits that do little damage for what they save, see :func:`gatenorm.surgery.selection.cheapest`.

    An edit saves its part of the time of a pass, summed over the phases that the target names (both by default); where
    the budget is of cache alone, its part of the cache, which MLPs have none of.

    Raises:
        PlanError: a budget that is none, or out of reach.
        EvaluationError: an unknown machine, or a checkpoint that is no whole model.
    """
    phases, wanted, limit = check_targets(budget.target_speedup, budget.max_cache_gb)
    counted, length = Architecture.of(layout), contexts(layout, budget.context)[0]
    check_runs(counted)
    machine = machine_of(layout, budget.machine)
    works = {"prefill": Work.prefill(length, budget.batch), "decode": Work.decode(length, budget.batch)}
    times = {phase: predict(counted, machine, work) for phase, work in works.items()}
    whole = counted.cache_bytes(length, budget.batch)
    share = {layer: counted.cached_tokens(layer, length) for layer in counted.attention}

    def cache(edits: Edits) -> float:
        return whole * (1 - sum(share[layer] for layer in edits.attention) / sum(share.values()))

    def saved(edit: Edit) -> float:
        if limit is not None and not phases:
            return float(share[edit.layer]) if edit.sublayer == ATTENTION else 0.0
        return sum(times[phase].saved(edit) / times[phase].total for phase in phases or _PHASES)

    def enough(edits: Edits) -> bool:
        if budget.count is not None:
            return len(edits) >= budget.count
        fast = all(times[phase].speedup_with(edits) >= wanted for phase in phases)
        return fast and (limit is None or cache(edits) <= limit)

    present = {kind: len(layout.layers_with(kind)) for kind in SUBLAYERS}
    found = cheapest(damage, {edit: saved(edit) for edit in damage}, enough, present)
    if found is None:
        asked = {"layers": budget.count, "target_speedup": budget.target_speedup, "max_cache_gb": budget.max_cache_gb}
        field, given = next((name, value) for name, value in asked.items() if value is not None)
        raise PlanError("out-of-reach", "is out of reach, whichever sublayers go", field=field, given=given)
    return found, Forecast(
        kind=ANY,
        count=len(found),
        of=sum(present.values()),
        context=length,
        batch=budget.batch,
        prefill=times["prefill"].speedup_with(found),
        decode=times["decode"].speedup_with(found),
        cache=1 - cache(found) / whole,
        cache_bytes=cache(found),
    )
