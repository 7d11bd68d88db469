"""``gatenorm prune``: write the checkpoint without some of its sublayers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import typer

from gatenorm.cli import checks, console
from gatenorm.cli.options import common, ranking, removal
from gatenorm.errors import GatenormError, OutputError, PlanError, named
from gatenorm.records import ANY, KINDS, REMOVE, Plan, read_record, to_json

if TYPE_CHECKING:
    from gatenorm.calibration.samples import Calibration
    from gatenorm.criteria.session import ScoringSession
    from gatenorm.fitting.fit import FittedPlan

NAME = "prune"
EXAMPLE = "Example: gatenorm prune ./llama --layers 8 -o ./llama-8"

# How many or which go: one of them, though the two targets can be met together.
_WAYS = (("layers",), ("share",), ("drop",), ("plan",), ("target_speedup", "max_cache_gb"))
# What the model is run with, by whatever criterion.
_RUN = tuple(f for f in ranking.Scoring.__annotations__ if f not in ("calibration", "family", "seed", "device"))
_SCORING = ("criterion", "calibration", *_RUN, "seed", "device")
_FITTING = ("fit", "fit_samples")
_FORECAST = ("machine", "context", "batch")


def command(
    *,
    given: typer.Context,
    model: common.Model,
    out: removal.Out,
    layers: removal.Layers,
    share: removal.Share,
    drop: removal.Drop,
    plan: removal.PlanFile,
    target_speedup: removal.TargetSpeedup,
    max_cache_gb: removal.MaxCacheGb,
    kind: removal.Kind,
    replace: removal.Replace,
    fit: removal.FitSources,
    fit_samples: removal.FitSamples,
    criterion: ranking.Criterion,
    protect: ranking.Protect,
    cross_check: ranking.CrossCheck,
    machine: removal.Machine,
    context: removal.Context,
    batch: removal.Batch,
    dry_run: removal.DryRun,
    json: common.Json,
    **how: Unpack[ranking.Scoring],
) -> None:
    """Remove or replace attention sublayers, MLPs or blocks of MODEL: writes a checkpoint that transformers loads."""
    from gatenorm import api
    from gatenorm.calibration.samples import with_source
    from gatenorm.cli.tables.pruning import show
    from gatenorm.files import check_apart, check_new_directory
    from gatenorm.surgery.disk import write_pruned
    from gatenorm.surgery.operation import check_operations
    from gatenorm.surgery.planning import check_kind, chosen

    fits = replace != REMOVE or (plan is not None and _names_replacements(plan))
    _check_choice(given, fits, kind)
    if out is not None:
        check_new_directory(out)
    elif not dry_run:
        raise OutputError("out-missing", "is missing", field="out", expected="a new directory to write to")
    check_kind(kind, (*KINDS, ANY))
    if kind == ANY:
        _check_any(criterion, cross_check, drop is not None)
    else:
        check_operations(chosen(kind, [0], 1, replace))
    if cross_check:
        checks.cross_checked(criterion, kind)
    tokens = checks.tokens(how, how["documents"])
    runs = checks.runs_the_model(criterion, tokens, given=how["calibration"] is not None)
    if not fits:
        _leave_out(given, _FITTING, f"nothing is fitted: {named('replace')} is {REMOVE}")
    if not (runs or cross_check or fits):
        _leave_out(given, _RUN, f"{criterion} reads weights alone")
    layout = api.open_model(model, how["family"])
    if layout.assumption:
        console.warn(layout.assumption)
    if out is not None:
        check_apart(out, layout.checkpoint.directory)
    predicted = None
    if kind != ANY and (target_speedup is not None or max_cache_gb is not None):
        predicted = api.smallest_removal(
            layout,
            target_speedup=target_speedup,
            max_cache_gb=max_cache_gb,
            machine=machine,
            context=context,
            batch=batch,
            protect=protect or (),
            kind=kind,
            replace=replace,
        )
        layers = predicted.count
    session = checks.scoring_session(layout, how) if runs or cross_check or fits else None
    with console.progress_bar(f"scoring by {criterion}", "steps") as progress:
        if kind == ANY and plan is None and session:
            made, predicted = api.choose(
                session,
                layers=layers,
                share=share,
                target_speedup=target_speedup,
                max_cache_gb=max_cache_gb,
                criterion=criterion,
                protect=protect or (),
                replace=replace,
                machine=machine,
                context=context,
                batch=batch,
                calibration=tokens,
                progress=progress,
            )
        else:
            made = api.plan(
                session if runs and session else layout,
                layers=layers,
                share=share,
                drop=drop,
                file=plan,
                criterion=criterion,
                protect=protect or (),
                kind=kind,
                replace=replace,
                seed=how["seed"],
                calibration=tokens if runs else None,
                progress=progress,
            )
    fitted = api.FittedPlan(made, {})
    if session and api.unfitted(made) and not dry_run:
        fitted = _fit(
            session, made, [dataclasses.replace(with_source(tokens, name), samples=fit_samples) for name in fit]
        )
    made = fitted.plan
    checked = None
    if cross_check and session and made.scores:
        with console.progress_bar("cross-check", "tokens") as progress:
            checked = api.cross_check(
                session,
                made.scores,
                len(made.added.attention),
                protect=made.protect,
                calibration=tokens,
                progress=progress,
            )
    data = to_json(made) | ({"cross_check": to_json(checked)} if checked else {})
    if dry_run:
        console.deliver(json, data, lambda: show(layout, made, None, 0, predicted, machine, checked, model))
        return
    assert out is not None
    with console.progress_bar("writing", "bytes") as progress:
        written = write_pruned(layout, made, out, progress, fitted.weights)
    for what in written.left_out:
        console.warn(f"left out: {what}")
    console.deliver(json, data, lambda: show(layout, made, out, written.nbytes, predicted, machine, checked, model))


def _fit(session: ScoringSession, plan: Plan, sources: list[Calibration]) -> FittedPlan:
    """Fit the operations of a plan, release the model, and warn of self text that is gibberish."""
    from gatenorm import api
    from gatenorm.fitting.moments import MomentObserver

    memory = console.bytes_for_people(MomentObserver.nbytes(session.layout, api.unfitted(plan), len(sources)))
    with console.progress_bar(f"fitting ({memory} of sums)", "tokens") as progress:
        fitted = api.fit(session, plan, sources, progress=progress)
    session.model.release()
    for source in fitted.plan.fit.sources if fitted.plan.fit and fitted.weights else ():
        if source.self_text and source.self_text.gibberish:
            console.warn(source.self_text.gibberish)
    return fitted


def _check_any(criterion: str, cross_check: bool, drop: bool) -> None:
    """Refuse what does not go with a choice among sublayers of both kinds.

    Raises:
        PlanError, CriterionError: layers by hand, a cross-check, or a criterion that does not measure both alike.
    """
    from gatenorm.criteria.registry import check_measures_damage
    from gatenorm.criteria.registry import criterion as criterion_named

    unused = "drop" if drop else "cross_check" if cross_check else ""
    if unused:
        why = "names layers, not sublayers" if drop else "compares rankings of attention sublayers alone"
        raise PlanError("option-unused", why, field=unused, hint=f"ask for another {named('kind')} than {ANY}")
    check_measures_damage(criterion_named(criterion.partition("@")[0]))


def _check_choice(given: typer.Context, fits: bool, kind: str) -> None:
    """Refuse more or fewer than one way of choosing, and options that the one asked for does not use.

    Raises:
        PlanError: as said.
    """
    ways = [fields for fields in (checks.typed(given, way) for way in _WAYS) if fields]
    if len(ways) != 1:
        asked = ", ".join(named(field) for fields in ways for field in fields) or "none"
        known = ", ".join(named(field) for way in _WAYS for field in way)
        raise PlanError("removal-choice", f"say once what to remove: by one of {known}; given: {asked}")
    [[first, *_]] = ways
    if first in ("drop", "plan"):
        unused = ("criterion", "calibration", "cross_check") if fits else (*_SCORING, "cross_check")
        _leave_out(given, unused, f"{named(first)} names the layers: nothing is scored")
    if first == "plan":
        _leave_out(given, ("kind", "replace"), f"{named('plan')} says what to remove")
    if first not in _WAYS[-1] and (kind != ANY or first == "plan"):
        targets = " and ".join(named(field) for field in _WAYS[-1])
        _leave_out(given, _FORECAST, f"only {targets} use the cost model")


def _names_replacements(plan: Path) -> bool:
    """Whether a plan file has something to fit. What is wrong with a file is said where the plan is read."""
    try:
        return any(edit.operation != REMOVE for edit in read_record(Plan, plan, "a plan").edits)
    except GatenormError:
        return False


def _leave_out(given: typer.Context, fields: tuple[str, ...], why: str) -> None:
    unused = checks.typed(given, fields)
    if unused:
        them = ", ".join(named(field) for field in unused[1:])
        hint = f"{why}; leave it out" + (f", and {them}" if them else "")
        raise PlanError("option-unused", "is not used", field=unused[0], hint=hint)
