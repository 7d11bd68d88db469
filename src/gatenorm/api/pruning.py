"""Plans of which sublayers to edit, and their execution: on disk, or on a model in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatenorm.api.fitting import fit, unfitted
from gatenorm.api.opening import ModelLike, open_model, session
from gatenorm.api.scoring import score
from gatenorm.calibration.samples import Calibration
from gatenorm.criteria.registry import check_measures_damage, check_ranks
from gatenorm.criteria.registry import criterion as criterion_named
from gatenorm.criteria.session import ScoringSession
from gatenorm.errors import PlanError, named
from gatenorm.families import family as family_named
from gatenorm.files import check_new_directory
from gatenorm.fitting.fit import FittedPlan
from gatenorm.progress import Progress
from gatenorm.records import ATTENTION, MLP, REMOVE, SUBLAYERS, Edit, Edits, Plan, from_json, read_json
from gatenorm.speed.predict import choice, targets
from gatenorm.speed.predict.cost_model import Forecast
from gatenorm.speed.predict.machines import DEFAULT
from gatenorm.surgery.disk import write_pruned
from gatenorm.surgery.folding import check_foldable
from gatenorm.surgery.operation import check_operations
from gatenorm.surgery.planning import (
    check_count,
    check_kind,
    chosen,
    count_for_share,
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
    criterion: str = "gate-norm",
    protect: Sequence[int] = (),
    kind: str = ATTENTION,
    replace: str = REMOVE,
    family: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "auto",
    calibration: Calibration | str | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Decide which sublayers to remove or replace: by number, by share, by hand or by a plan file (exactly one).

    Args:
        layers: how many of the weakest to remove, beyond those already gone.
        share: the same as a share of the sublayers that are there, 0.2 or "20%", rounded half up, at least one.
        drop: original 0-based indices.
        file: a ``plan.json``, made for this checkpoint, which names the sublayers itself.
        kind: the sublayer to remove: ``attention``, ``mlp``, or ``block`` for both; a criterion must rank that kind.
            :func:`choose` chooses among attention and MLP sublayers in one ranking.
        replace: the operation in the place of each: ``remove`` (nothing), ``fold``, ``constant``, ``linear``,
            ``linear:64`` (of rank 64); all but the first are fitted by :func:`gatenorm.fit`.
        protect: original indices of layers to keep.
        criterion, seed, device, dtype, calibration: as in :func:`score`.

    Raises:
        PlanError: not exactly one way of choosing, or one that this model does not allow.
        CriterionError: as :func:`score`.
    """
    ways = {"layers": layers, "share": share, "drop": drop, "file": file}
    given = [named(name) for name, value in ways.items() if value is not None]
    if len(given) != 1:
        problem = f"what to remove is said by {' and '.join(given) or 'nothing'}"
        raise PlanError("choice-unclear", problem, expected=f"one of {', '.join(map(named, ways))}")
    layout = open_model(model, family)
    check_kind(kind)
    ranking = criterion_named(criterion.partition("@")[0])
    if drop is None and file is None:
        check_ranks(ranking, kind)
    why = layout.refusal()
    if why:
        raise PlanError("model-not-prunable", f"this {layout.model_type} model cannot be pruned: {why}")
    if drop is not None:
        return plan_by_hand(layout, drop, protect, kind, replace)
    if file is not None:
        data = read_json(Path(file), "a plan")
        data.pop("cross_check", None)  # the command line writes it beside the plan
        return plan_from_file(layout, from_json(Plan, data, "a plan"), protect)
    check_operations(chosen(kind, layout.layers_with(kind)[:1], layout.layers, replace))
    check_foldable(layout.data, replace)
    count = layers if layers is not None else count_for_share(share or 0.0, len(layout.layers_with(kind)))
    check_count(layout, count, protect, kind)  # before the scoring, which may take a while
    scores = score(
        model if isinstance(model, ScoringSession) else layout,  # a session has loaded the model already
        criterion,
        kind=kind,
        seed=seed,
        device=device,
        dtype=dtype,
        calibration=calibration,
        progress=progress,
    )
    return plan_by_scores(layout, scores, count, protect, replace)


def choose(
    model: ModelLike | ScoringSession,
    *,
    layers: int | None = None,
    share: float | str | None = None,
    target_speedup: str | None = None,
    max_cache_gb: float | None = None,
    criterion: str,
    protect: Sequence[int] = (),
    replace: str = REMOVE,
    machine: str = DEFAULT,
    context: int | None = None,
    batch: int = 1,
    family: str | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    calibration: Calibration | str | None = None,
    progress: Progress | None = None,
) -> tuple[Plan, Forecast]:
    """Choose among attention and MLP sublayers together, by damage for what is saved under one budget.

    The criterion must measure the damage of both alike (``cosine``, ``leave-one-out``). Sublayers are taken in the
    order of damage over predicted time saved (where only the cache is to shrink: over cache saved) until the budget is
    met, and those that turn out not to be needed are put back.

    Args:
        layers, share: a budget of sublayers, of both kinds in all.
        target_speedup, max_cache_gb, machine, context, batch: a budget of time or cache, as :func:`smallest_removal`.
        protect: layers both of whose sublayers stay.
        replace: what takes their place.
        criterion, family, device, dtype, calibration: as in :func:`score`.

    Returns:
        The plan, and what the cost model predicts of it.

    Raises:
        PlanError: not exactly one budget (both targets are one), or one that is out of reach.
        CriterionError: as :func:`score`, or a criterion that does not measure the damage of both.
    """
    targets_given = target_speedup is not None or max_cache_gb is not None
    if (layers is not None) + (share is not None) + targets_given != 1:
        ways = ("layers", "share", "target_speedup", "max_cache_gb")
        raise PlanError(
            "choice-unclear", "what to save is not said once", expected=f"one of {', '.join(map(named, ways))}"
        )
    check_measures_damage(criterion_named(criterion.partition("@")[0]))
    opened = model if isinstance(model, ScoringSession) else session(model, family=family, device=device, dtype=dtype)
    layout = opened.layout
    check_operations(Edits(Edit(0, sublayer, replace) for sublayer in SUBLAYERS))
    for kind in SUBLAYERS:
        check_count(layout, 1, protect, kind)
    of_attention, of_mlps = (
        score(opened, criterion, kind=kind, calibration=calibration, progress=progress) for kind in SUBLAYERS
    )
    damage = {
        Edit(one.layer, sublayer, replace): one.score
        for sublayer, found in ((ATTENTION, of_attention), (MLP, of_mlps))
        for one in found.layers
        if one.layer not in protect
    }
    count = layers if share is None else count_for_share(share, len(damage))
    edits, predicted = choice.choose(
        layout, damage, choice.Budget(count, target_speedup, max_cache_gb, machine, context, batch)
    )
    return plan_by_damage(layout, edits, of_attention, of_mlps, protect), predicted


def smallest_removal(
    model: ModelLike,
    *,
    target_speedup: str | None = None,
    max_cache_gb: float | None = None,
    machine: str = DEFAULT,
    context: int | None = None,
    batch: int = 1,
    protect: Sequence[int] = (),
    kind: str = ATTENTION,
    replace: str = REMOVE,
    family: str | None = None,
) -> Forecast:
    """The forecast for the fewest edits that meet a target by the cost model; its ``count`` is for :func:`plan`.

    Args:
        target_speedup: ``1.2`` for prefill and decode, or ``prefill=1.2`` or ``decode=1.2``.
        max_cache_gb: gigabytes (10^9 bytes) that the key/value cache may take.
        machine, context, batch: what to predict for; ``this`` measures this machine.
        protect, kind, replace: as in :func:`plan`.

    Raises:
        PlanError: a target that is out of reach, or met already.
        EvaluationError: an unknown machine, or a checkpoint that is no whole model.
    """
    found = targets.smallest_removal(
        open_model(model, family),
        target_speedup=target_speedup,
        max_cache_gb=max_cache_gb,
        machine_name=machine,
        context=context,
        batch=batch,
        protect=protect,
        kind=kind,
        operation=replace,
    )
    if found is None:
        raise PlanError("cache-fits", "is met by the unpruned model", field="max_cache_gb", given=max_cache_gb)
    return found


def prune(
    model: ModelLike, out: str | os.PathLike[str], plan: Plan | FittedPlan, *, progress: Progress | None = None
) -> Path:
    """Carry a plan out: write the pruned checkpoint as the new directory ``out``, whole or not at all.

    Operations that :func:`gatenorm.fit` has not fitted yet are fitted first, as it does by default.

    Raises:
        PlanError: the model must not be pruned.
        OutputError: ``out`` is not empty, lies inside the model, or cannot be written.
        CalibrationError: as :func:`gatenorm.fit`.
    """
    check_new_directory(Path(out))
    if isinstance(plan, Plan) and unfitted(plan):
        plan = fit(model, plan)
    fitted = plan if isinstance(plan, FittedPlan) else FittedPlan(plan, {})
    write_pruned(open_model(model), fitted.plan, Path(out), progress, fitted.weights)
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
    layers = pruned["layers"] if pruned else model.config.num_hidden_layers
    return edit_model(model, chosen(kind, drop, layers), data)
