"""Plans of which sublayers to edit, and their execution: on disk, or on a model in memory."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatenorm.api.choosing import rank_sublayers
from gatenorm.api.fitting import fit, unfitted
from gatenorm.api.opening import ModelLike, open_model
from gatenorm.api.scoring import score
from gatenorm.calibration.samples import Calibration
from gatenorm.criteria.registry import check_measures_damage, check_ranks, criterion as criterion_named
from gatenorm.criteria.session import ScoringSession
from gatenorm.errors import PlanError, named
from gatenorm.exports import pruned
from gatenorm.families import family as family_named
from gatenorm.fitting.fit import FittedPlan
from gatenorm.models.architecture import Architecture
from gatenorm.progress import Progress
from gatenorm.records import ANY, ATTENTION, KINDS, REMOVE, Plan, from_json, read_json
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


def plan(
    model: ModelLike,
    *,
    layers: int | None = None,
    share: float | str | None = None,
    drop: Sequence[int] | None = None,
    file: str | os.PathLike[str] | None = None,
    target_speedup: str | None = None,
    max_cache_gb: float | None = None,
    criterion: str = "gate-norm",
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
    ways = {"layers": layers, "share": share, "drop": drop, "file": file}
    targets = {"target_speedup": target_speedup, "max_cache_gb": max_cache_gb}  # which can be met together
    given = [name for name, value in (ways | targets).items() if value is not None]
    if not given or (len(given) > 1 and not targets.keys() >= {*given}):
        problem = f"what to remove is said by {' and '.join(map(named, given)) or 'nothing'}"
        raise PlanError("choice-unclear", problem, expected=f"one of {', '.join(map(named, ways | targets))}")
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
        data = read_json(Path(file), "a plan")
        data.pop("cross_check", None)  # the command line writes it beside the plan
        return plan_from_file(layout, from_json(Plan, data, "a plan"), protect)
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
        layers = count_for_share(share, len(layout.layers_with(kind)))
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
    counted, [length, *_] = Architecture.of(layout), contexts(layout, context)
    return forecast_of(counted, machine_of(layout, machine), plan.added, length, batch, plan.kind)


def prune(
    model: ModelLike, out: str | os.PathLike[str], plan: Plan | FittedPlan, *, progress: Progress | None = None
) -> Path:
    """Carry a plan out: write the pruned checkpoint as ``out``, a new directory, whole or not at all.

    Of a GGUF file it is a new GGUF file.

    Operations that :func:`gatenorm.fit` has not fitted yet are fitted first, as it does by default.

    Raises:
        PlanError: the model must not be pruned.
        OutputError: ``out`` is there already, lies inside the model, or cannot be written.
        CalibrationError: as :func:`gatenorm.fit`.
    """
    layout = open_model(model)
    if isinstance(plan, Plan) and unfitted(plan):
        pruned.check_output(layout, Path(out))  # before the model is run
        plan = fit(model, plan)
    fitted = plan if isinstance(plan, FittedPlan) else FittedPlan(plan, {})
    pruned.write(layout, fitted.plan, Path(out), progress, fitted.weights)
    return Path(out)


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
