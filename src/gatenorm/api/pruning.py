"""Plans of which sublayers to edit, and their execution: on disk, or on a model in memory."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from gatenorm.api.choosing import rank_sublayers
from gatenorm.api.fitting import fit, unfitted
from gatenorm.api.opening import ModelLike, open_model
from gatenorm.api.pruned import Pruned
from gatenorm.api.scoring import score
from gatenorm.calibration.samples import Calibration
from gatenorm.criteria.registry import (
    DEFAULT as DEFAULT_CRITERION,
    check_measures_damage,
    check_ranks,
    criterion as criterion_named,
)
from gatenorm.criteria.session import ScoringSession
from gatenorm.errors import PlanError, fields_named, named
from gatenorm.exports.pruned import check_destination, write_as_source
from gatenorm.families import Layout, family as family_named
from gatenorm.fitting.fit import FittedPlan
from gatenorm.models.architecture import Architecture
from gatenorm.progress import Progress
from gatenorm.records import ANY, ATTENTION, KINDS, REMOVE, Plan
from gatenorm.records.plan import read_plan
from gatenorm.speed.predict.choice import Savings, choose
from gatenorm.speed.predict.cost_model import Forecast, forecast_of
from gatenorm.speed.predict.machines import DEFAULT
from gatenorm.speed.predict.targets import Target, contexts, machine_of, smallest_removal
from gatenorm.surgery.config import check_prunable
from gatenorm.surgery.folding import check_foldable
from gatenorm.surgery.operation import check_operation
from gatenorm.surgery.planning import (
    check_count,
    check_kind,
    count_for_share,
    edits_of,
    plan_by_hand,
    plan_by_scores,
    plan_from_file,
)
from gatenorm.surgery.selection import plan_by_damage

# What says which sublayers go, one of these; the targets can be met together.
TARGETS = ("target_speedup", "max_cache_gb")
WAYS = ("layers", "share", "drop", "file", *TARGETS)


def chosen_by(given: Mapping[str, object]) -> str:
    """The one of ``WAYS`` that has a value, the first of two targets.

    Raises:
        PlanError: none has, or several that do not go together.
    """
    ways = [name for name in WAYS if given[name] is not None]
    if not ways or (len(ways) > 1 and not {*TARGETS} >= {*ways}):
        problem = f"what to remove is said by {' and '.join(map(named, ways)) or 'nothing'}"
        raise PlanError("choice-unclear", problem, expected=f"one of {', '.join(map(named, WAYS))}")
    return ways[0]


def plan(
    model: ModelLike,
    *,
    layers: int | None = None,
    share: float | str | None = None,
    drop: Sequence[int] | None = None,
    file: str | os.PathLike[str] | None = None,
    target_speedup: str | None = None,
    max_cache_gb: float | None = None,
    criterion: str = DEFAULT_CRITERION,
    protect: Sequence[int] = (),
    kind: str = ATTENTION,
    replace: str = REMOVE,
    machine: str = DEFAULT,
    context: int | None = None,
    batch: int = 1,
    family: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "auto",
    calibration: Calibration | str | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Decide which sublayers to remove or replace: by number, share, target, by hand or by a plan file (exactly one).

    ``any`` chooses among attention and MLP sublayers together: in the order of damage over predicted time saved (where
    only the cache is to shrink: over cache saved) until the budget is met; those that turn out not to be needed are put
    back. Its criterion must measure the damage of both alike: see :func:`rank_sublayers`.

    Args:
        layers: how many of the weakest to remove, beyond those already gone; of ``any`` of both kinds in all.
        share: the same as a share of the sublayers that are there, 0.2 or "20%", rounded half up, at least one.
        drop: original 0-based indices.
        file: a ``plan.json``, made for this checkpoint, which names the sublayers itself.
        target_speedup: as few as reach it by the cost model: ``1.2`` for prefill and decode, or ``prefill=1.2`` or
            ``decode=1.2``.
        max_cache_gb: as few as bring the key/value cache below so many gigabytes (10^9 bytes); both targets may be set.
        machine, context, batch: what the cost model predicts for; ``this`` measures this machine.
        kind: the sublayer to remove: ``attention``, ``mlp``, or ``block`` for both, or ``any`` of the first two; a
            criterion must rank that kind.
        replace: the operation in the place of each: ``remove`` (nothing), ``fold``, ``constant``, ``linear``,
            ``linear:64`` (of rank 64); all but the first are fitted by :func:`gatenorm.fit`. Of ``any``, sublayers
            whose place it cannot take are removed.
        protect: original indices of layers to keep.
        criterion, seed, device, dtype, calibration: as in :func:`score`.

    Raises:
        PlanError: not exactly one way of choosing, one that this model does not allow, or a target that is out of
            reach or met already.
        CriterionError: as :func:`score`, or one that does not measure the damage of both kinds.
        EvaluationError: an unknown machine, or a checkpoint that is no whole model.
    """
    chosen_by(dict(zip(WAYS, (layers, share, drop, file, target_speedup, max_cache_gb), strict=True)))
    layout = open_model(model, family)
    ranking = criterion_named(criterion.partition("@")[0])
    check_kind(kind, (*KINDS, ANY))
    if kind == ANY and drop is not None:
        hint = f"ask for another {named('kind')} than {ANY}"
        raise PlanError("option-unused", "names layers, not sublayers", field="drop", hint=hint)
    if drop is None and file is None:
        check_measures_damage(ranking) if kind == ANY else check_ranks(ranking, kind)
    check_prunable(layout.refusal(), layout.checkpoint.name)
    if drop is not None:
        return plan_by_hand(layout, drop, protect, kind, replace)
    if file is not None:
        with fields_named({"plan": "file"}):
            return plan_from_file(layout, read_plan(Path(file)), protect)
    target = Target(target_speedup, max_cache_gb, machine, context, batch)
    opened = model if isinstance(model, ScoringSession) else layout  # a session has loaded the model already
    run: dict[str, Any] = {"device": device, "dtype": dtype, "calibration": calibration, "progress": progress}
    if kind == ANY:
        where: dict[str, Any] = {"machine": machine, "context": context, "batch": batch}
        both = rank_sublayers(opened, criterion=criterion, replace=replace, protect=protect, **where, **run)
        damage = {one.edit: one.damage for one in both.sublayers}
        count = layers if share is None else count_for_share(share, len(damage))
        edits = choose(Savings(layout, target), damage, count, target)
        return plan_by_damage(layout, edits, both.scores, both.mlp_scores, protect)
    check_operation(replace, kind)
    check_foldable(layout.data, replace)
    if share is not None:
        layers = count_for_share(share, len(layout.removable(kind)))
    elif layers is None:
        fewest = smallest_removal(layout, target, protect, kind, replace)
        if fewest is None:
            raise PlanError("cache-fits", "is met by the unpruned model", field="max_cache_gb", given=max_cache_gb)
        layers = fewest.count
    check_count(layout, layers, protect, kind)  # before the scoring, which may take a while
    scores = score(opened, criterion, kind=kind, seed=seed, **run)
    return plan_by_scores(layout, scores, layers, protect, replace)


def forecast(
    model: ModelLike, plan: Plan, *, machine: str = DEFAULT, context: int | None = None, batch: int = 1
) -> Forecast:
    """What the cost model predicts of the edits that a plan adds to ``model``, for which it was made.

    Args:
        machine, context, batch: what to predict for; ``this`` measures this machine.

    Raises:
        PlanError: a context longer than the model's.
        EvaluationError: an unknown machine, or a checkpoint that is no whole model.
    """
    layout = open_model(model)
    return _forecaster(layout, Architecture.of(layout), machine, context, batch)(plan)


def _forecaster(
    layout: Layout, counted: Architecture, machine: str, context: int | None, batch: int
) -> Callable[[Plan], Forecast]:
    """What forecasts plans, once it is clear for which machine and context."""
    known, [length, *_] = machine_of(layout, machine), contexts(layout, context)
    return lambda plan: forecast_of(counted, known, plan.edits - layout.edits, length, batch, plan.kind)


def prune(
    model: ModelLike,
    out: str | os.PathLike[str],
    plan: Plan | FittedPlan,
    *,
    machine: str = DEFAULT,
    context: int | None = None,
    batch: int = 1,
    progress: Progress | None = None,
) -> Pruned:
    """Carry a plan out: write the pruned checkpoint as ``out``, a new directory, whole or not at all.

    Of a GGUF file it is a new GGUF file. What comes back is a path as well: ``load(prune(model, out, plan))``.
    What is removed is said by the plan: ``prune(model, out, gatenorm.plan(model, layers=8))``.

    Operations that :func:`gatenorm.fit` has not fitted yet are fitted first, as it does by default.

    Args:
        machine, context, batch: what to predict for, as in :func:`forecast`.

    Raises:
        PlanError: the model must not be pruned, or a context longer than the model's.
        OutputError: ``out`` is there already, lies inside the model, or cannot be written.
        CalibrationError: as :func:`gatenorm.fit`.
        EvaluationError: an unknown machine.
    """
    layout = open_model(model)
    check_destination(layout, out)  # before a fit, which may take a while
    counted = Architecture.of(layout)
    predicted = _forecaster(layout, counted, machine, context, batch) if counted.runs else None
    fitted = FittedPlan(plan) if isinstance(plan, Plan) else plan
    if {*unfitted(fitted.plan)} - {*fitted.weights}:
        fitted = fit(model, fitted.plan)
    written = write_as_source(layout, fitted.plan, out, progress, fitted.weights)
    return Pruned(
        **structs.asdict(written),
        plan=fitted.plan,
        source_bytes=layout.nbytes,
        forecast=predicted(fitted.plan) if predicted else None,
    )


def prune_module(model: Any, drop: Sequence[int], kind: str = ATTENTION) -> Any:
    """Remove sublayers of layers ``drop`` from a live transformers model, in place; returns the model.

    The result is what loading the pruned checkpoint would give, and ``save_pretrained`` writes such a checkpoint.

    Args:
        kind: the sublayer to remove: ``attention``, ``mlp``, or ``block`` for both.

    Raises:
        FamilyError: the model's architecture is not known.
        PlanError: an unknown kind, a layer that is not there, or none would be left.
    """
    from gatenorm.surgery.live import edit_model  # which imports PyTorch

    config = model.config.to_dict()
    pruned = config.get("gatenorm")
    data = family_named(pruned["base_model_type"] if pruned else config["model_type"], config)
    layers = pruned["layers"] if pruned else model.config.get_text_config().num_hidden_layers
    return edit_model(model, edits_of(kind, drop, layers), data)
