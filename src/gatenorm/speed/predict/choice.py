"""Attention and MLP sublayers in one ranking: what each saves, and which to edit for a budget."""

from collections.abc import Mapping

from gatenorm.errors import PlanError
from gatenorm.families import Layout
from gatenorm.models.architecture import Architecture, Work
from gatenorm.records import Edit, Edits
from gatenorm.records.rankings import SublayerCost
from gatenorm.speed.predict.cost_model import check_runs, predict
from gatenorm.speed.predict.targets import Target, contexts, machine_of
from gatenorm.surgery.selection import by_damage, cheapest, is_possible

_PHASES = ("prefill", "decode")


class Savings:
    """What edits of one model are predicted to save, by the machine, context and batch of a target.

    Raises:
        PlanError: a context that is longer than the model's.
        EvaluationError: an unknown machine, or a checkpoint that is no whole model.
    """

    def __init__(self, layout: Layout, target: Target):
        self.layout, self._counted = layout, Architecture.of(layout)
        check_runs(self._counted)
        self.context, self.batch = contexts(layout, target.context)[0], target.batch
        machine = machine_of(layout, target.machine)
        works = {"prefill": Work.prefill(self.context, self.batch), "decode": Work.decode(self.context, self.batch)}
        self._times = {phase: predict(self._counted, machine, work) for phase, work in works.items()}

    def time(self, edit: Edit, phase: str) -> float:
        """The share of a phase's time that an edit saves; negative where it is slower."""
        return self._times[phase].saved(edit) / self._times[phase].total

    def speedup(self, edits: Edits, phase: str) -> float:
        """How many times as fast a phase is with these edits."""
        return self._times[phase].speedup_with(edits)

    def cache_bytes(self, edits: Edits) -> float:
        """What stays of the key/value cache."""
        return self._counted.cache_bytes(self.context, self.batch, without=edits.attention)

    def cache(self, edit: Edit) -> float:
        """The share of the cache that goes; MLPs have none of it."""
        return 1 - self.cache_bytes(Edits([edit])) / self.cache_bytes(Edits())


def ranked(savings: Savings, damage: Mapping[Edit, float]) -> tuple[SublayerCost, ...]:
    """What each edit damages and saves, in the order of damage for the time saved."""
    times = {edit: sum(savings.time(edit, phase) for phase in _PHASES) for edit in damage}
    return tuple(
        SublayerCost(
            edit=edit,
            damage=damage[edit],
            prefill=savings.time(edit, "prefill"),
            decode=savings.time(edit, "decode"),
            cache=savings.cache(edit),
        )
        for edit in by_damage(damage, times)
    )


def choose(savings: Savings, damage: Mapping[Edit, float], count: int | None, target: Target) -> Edits:
    """The edits that do little damage for what they save, see :func:`gatenorm.surgery.selection.cheapest`: ``count`` of
    them, or enough for the target.

    An edit saves its part of the time of a pass, summed over the phases that the target names (both by default); where
    the budget is of cache alone, its part of the cache, which MLPs have none of.

    Raises:
        PlanError: a budget that is none, or out of reach.
    """
    phases, wanted, limit = target.parsed()

    def saved(edit: Edit) -> float:
        if limit is not None and not phases:
            return savings.cache(edit)
        return sum(savings.time(edit, phase) for phase in phases or _PHASES)

    def enough(edits: Edits) -> bool:
        if count is not None:
            return len(edits) >= count
        fast = all(savings.speedup(edits, phase) >= wanted for phase in phases)
        return fast and (limit is None or savings.cache_bytes(edits) <= limit)

    gains = {edit: saved(edit) for edit in damage}
    chosen = cheapest(damage, gains, enough, lambda edits: is_possible(savings.layout, edits))
    if chosen is None:
        asked = {"layers": count, "target_speedup": target.speedup, "max_cache_gb": target.cache_gb}
        field, given = next((name, value) for name, value in asked.items() if value is not None)
        raise PlanError("out-of-reach", "is out of reach, whichever sublayers go", field=field, given=given)
    return chosen
