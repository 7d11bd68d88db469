"""``gatenorm prune``: write the checkpoint without some of its sublayers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import typer

from gatenorm.cli import checks, console
from gatenorm.cli.options import common, ranking, removal
from gatenorm.errors import GatenormError, OutputError, named
from gatenorm.records import ANY, KINDS, REMOVE, Plan, read_record, to_json

if TYPE_CHECKING:
    from gatenorm.calibration.samples import Calibration
    from gatenorm.criteria.session import ScoringSession
    from gatenorm.fitting.fit import FittedPlan

NAME = "prune"
EXAMPLE = "Example: gatenorm prune ./llama --layers 8 -o ./llama-8"

# What the model is run with, by whatever criterion.
_RUN = tuple(f for f in ranking.Scoring.__annotations__ if f not in ("calibration", "family", "seed", "device"))
_SCORING = ("criterion", "calibration", *_RUN, "seed", "device")
_FITTING = ("fit", "fit_samples", "judge")
_FORECAST = ("machine", "context", "batch")


def command(
    *,
    given: typer.Context,
    model: common.Model,
    out: removal.Out,
    fit: removal.FitSources,
    fit_samples: removal.FitSamples,
    judge: removal.Judges,
    cross_check: ranking.CrossCheck,
    dry_run: removal.DryRun,
    json: common.Json,
    **how: Unpack[removal.Pruning],
) -> None:
    """Remove or replace attention sublayers, MLPs or blocks of MODEL: writes a checkpoint that transformers loads."""
    from gatenorm import api
    from gatenorm.calibration.samples import with_source
    from gatenorm.cli.tables.pruning import show
    from gatenorm.exports.pruned import Destination

    fits = how["replace"] != REMOVE or (how["file"] is not None and _names_replacements(how["file"]))
    _check_choice(given, fits, how)
    if out is None and not dry_run:
        raise OutputError(
            "out-missing", "is missing", field="out", expected="a new directory to write to, or a .gguf file for one"
        )
    _check_kind(given, how, cross_check)
    tokens = checks.tokens(how, how["documents"])
    runs = checks.runs_the_model(how["criterion"], tokens, given=how["calibration"] is not None)
    if not fits:
        checks.leave_out(given, _FITTING, f"nothing is fitted: {named('replace')} is {REMOVE}")
    elif how["layer_by_layer"]:
        checks.leave_out(given, ("judge",), f"with {named('layer_by_layer')} no predictions are compared")
    if not (runs or cross_check or fits):
        checks.leave_out(given, _RUN, f"{how['criterion']} reads weights alone")
    layout = api.open_model(model, how["family"])
    if layout.assumption:
        console.warn(layout.assumption)
    destination = None if out is None else Destination.of(layout, out)
    session = checks.scoring_session(layout, how) if runs or cross_check or fits else None
    choice: dict[str, Any] = {name: value for name, value in how.items() if name in removal.Choice.__annotations__}
    with console.progress_bar(f"scoring by {how['criterion']}", "steps") as progress:
        plan = api.plan(
            session if runs and session else layout,
            **choice,
            seed=how["seed"],
            calibration=tokens if runs else None,
            progress=progress,
        )
    fitted = api.FittedPlan(plan, {})
    if session and api.unfitted(plan) and not dry_run:
        sources = [dataclasses.replace(with_source(tokens, name), samples=fit_samples) for name in fit]
        fitted = _fit(session, plan, sources, () if judge == ("none",) else judge)
    plan = fitted.plan
    checked = None
    if cross_check and session and plan.scores:
        with console.progress_bar("cross-check", "tokens") as progress:
            count = len(plan.added.attention)
            checked = api.cross_check(
                session, plan.scores, count, protect=plan.protect, calibration=tokens, progress=progress
            )
    pruned, where = None, {name: choice[name] for name in _FORECAST}
    if destination and not dry_run:
        with console.progress_bar("writing", "bytes") as progress:
            pruned = api.prune(layout, destination, fitted, progress=progress, **where)
        for line in (*(f"left out: {what}" for what in pruned.left_out), *pruned.notes):
            console.warn(line)
    predicted = None
    if how["target_speedup"] is not None or how["max_cache_gb"] is not None or how["kind"] == ANY:
        predicted = pruned.forecast if pruned else api.forecast(layout, plan, **where)
    data = to_json(plan) | ({"cross_check": to_json(checked)} if checked else {})
    console.deliver(json, data, lambda: show(layout, plan, pruned, predicted, how["machine"], checked, model))


def _fit(session: ScoringSession, plan: Plan, sources: Sequence[Calibration], judges: Sequence[str]) -> FittedPlan:
    """Fit the operations of a plan, release the model, and warn of self text that is gibberish."""
    from gatenorm import api

    with console.progress_bar(f"fitting ({_memory(session, plan, sources)})", "tokens") as progress:
        fitted = api.fit(session, plan, sources, judges=judges, progress=progress)
    session.release()
    for source in fitted.plan.fit.sources if fitted.plan.fit and fitted.weights else ():
        written = source.protocol.self_text
        if source.tokens and written and written.gibberish:
            console.warn(written.gibberish)
    return fitted


def _memory(session: ScoringSession, plan: Plan, sources: Sequence[Calibration]) -> str:
    """What a fit takes besides the model."""
    from gatenorm import api
    from gatenorm.fitting.moments import MomentObserver

    layout, edits = session.layout, api.unfitted(plan)
    stated = f"{console.bytes_for_people(MomentObserver.nbytes(layout, edits, len(sources)))} of sums"
    if session.layer_by_layer:
        tokens = max(one.samples * one.length for one in sources)
        itemsize = 4 if session.model.computes_in == "float32" else 2
        waiting = MomentObserver.waiting(layout, edits, tokens, itemsize)
        stated += f", {console.bytes_for_people(waiting)} of hidden units" if waiting else ""
    return stated


def _check_kind(given: typer.Context, how: removal.Choice, cross_check: bool) -> None:
    """Refuse an unknown kind of sublayer, and what does not go with the one that is asked for."""
    from gatenorm.surgery.operation import check_operation, operation_named
    from gatenorm.surgery.planning import check_kind

    check_kind(how["kind"], (*KINDS, ANY))
    if how["kind"] != ANY:
        check_operation(how["replace"], how["kind"])
        if cross_check:
            checks.cross_checked(how["criterion"], how["kind"])
        return
    checks.leave_out(given, ("drop", "cross_check"), f"{named('kind')} {ANY} ranks two kinds in one")
    checks.measures_damage(how["criterion"])
    operation_named(how["replace"])


def _check_choice(given: typer.Context, fits: bool, how: removal.Choice) -> None:
    """Refuse more or fewer than one way of choosing, and options that the one asked for does not use."""
    from gatenorm.api.pruning import TARGETS, chosen_by

    first = chosen_by(how)
    if first in ("drop", "file"):
        unused = ("criterion", "calibration", "cross_check") if fits else (*_SCORING, "cross_check")
        checks.leave_out(given, unused, f"{named(first)} names the layers: nothing is scored")
    if first == "file":
        checks.leave_out(given, ("kind", "replace"), f"{named('file')} says what to remove")
    if first not in TARGETS and (how["kind"] != ANY or first == "file"):
        targets = " and ".join(map(named, TARGETS))
        checks.leave_out(given, _FORECAST, f"only {targets} use the cost model")


def _names_replacements(plan: Path) -> bool:
    """Whether a plan file has something to fit. What is wrong with a file is said where the plan is read."""
    try:
        return any(edit.operation != REMOVE for edit in read_record(Plan, plan, "a plan").edits)
    except GatenormError:
        return False
