"""``gatenorm prune``: write the checkpoint without some of its sublayers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import typer

from gatenorm.cli import checks, console
from gatenorm.cli.options import common, ranking, removal
from gatenorm.errors import OutputError, named
from gatenorm.records import ANY, KINDS, REMOVE, to_json
from gatenorm.records.plan import read_plan

if TYPE_CHECKING:
    from gatenorm.calibration.samples import Calibration
    from gatenorm.criteria.session import ScoringSession
    from gatenorm.fitting.fit import FittedPlan
    from gatenorm.records import Plan

NAME = "prune"
EXAMPLE = "Example: gatenorm prune ./llama --layers 8 -o ./llama-8"

_SCORING_OPTIONS = ("criterion", "calibration", *ranking.RUN_OPTIONS, "seed", "device", "cross_check")
_FORECAST_OPTIONS = ("machine", "context", "batch")


def command(
    *,
    given: typer.Context,
    model: common.Model,
    out: removal.Out,
    dry_run: removal.DryRun,
    json: common.Json,
    **how: Unpack[removal.Pruning],
) -> None:
    """Remove or replace attention sublayers, MLPs or blocks of MODEL: writes a checkpoint that transformers loads."""
    from gatenorm import api
    from gatenorm.api.pruning import TARGETS, chosen_by
    from gatenorm.calibration.samples import with_source
    from gatenorm.cli.tables.pruning import show
    from gatenorm.exports.pruned import check_destination
    from gatenorm.models.architecture import Architecture

    first = chosen_by(how)
    replaced = {edit.operation for edit in read_plan(how["file"]).edits} if how["file"] else {how["replace"]}
    fits = replaced != {REMOVE}
    _check_options(given, how, first, fits)
    tokens = checks.tokens(how, how["documents"])
    runs = checks.runs_the_model(how["criterion"], tokens, given=how["calibration"] is not None)
    if not (runs or fits or how["cross_check"]):
        checks.leave_out(given, ranking.RUN_OPTIONS, f"{how['criterion']} reads weights alone")
    if out is None and not dry_run:
        raise OutputError(
            "out-missing", "is missing", field="out", expected="a new directory to write to, or a .gguf file for one"
        )
    layout = api.open_model(model, how["family"])
    if layout.assumption:
        console.warn(layout.assumption)
    if out is not None:
        check_destination(layout, out)
    session = checks.scoring_session(layout, how) if runs or how["cross_check"] or fits else None
    opened = session or layout
    choice: dict[str, Any] = {name: value for name, value in how.items() if name in removal.Choice.__annotations__}
    with console.progress_bar(f"scoring by {how['criterion']}", "steps") as progress:
        plan = api.plan(opened, **choice, seed=how["seed"], calibration=tokens if runs else None, progress=progress)
    fitted = api.FittedPlan(plan)
    if session and api.unfitted(plan) and not dry_run:
        sources = [dataclasses.replace(with_source(tokens, name), samples=how["fit_samples"]) for name in how["fit"]]
        fitted = _fit(session, plan, sources, () if how["judge"] == ("none",) else how["judge"])
        plan = fitted.plan
    checked = None
    if how["cross_check"] and plan.scores:
        with console.progress_bar("cross-check", "tokens") as progress:
            count = len(plan.added.attention)
            checked = api.cross_check(
                opened, plan.scores, count, protect=plan.protect, calibration=tokens, progress=progress
            )
    pruned, where = None, {name: choice[name] for name in _FORECAST_OPTIONS}
    if out is not None and not dry_run:
        with console.progress_bar("writing", "bytes") as progress:
            pruned = api.prune(layout, out, fitted, progress=progress, **where)
        for line in (*(f"left out: {what}" for what in pruned.left_out), *pruned.notes):
            console.warn(line)
        predicted = pruned.forecast
    else:
        predicted = api.forecast(layout, plan, **where) if Architecture.of(layout).runs else None
    machine = how["machine"] if first in TARGETS or how["kind"] == ANY else None
    data = to_json(plan) | ({"cross_check": to_json(checked)} if checked else {})
    console.deliver(json, data, lambda: show(layout, plan, pruned, predicted, machine, checked, model))


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


def _check_options(given: typer.Context, how: removal.Pruning, first: str, fits: bool) -> None:
    """Refuse an unknown kind of sublayer, and options that do not go with ``first``, the way of choosing layers, with
    the kind, or with whether anything is fitted.
    """
    from gatenorm.api.pruning import TARGETS
    from gatenorm.surgery.operation import check_operation, operation_named
    from gatenorm.surgery.planning import check_kind

    if first == "file":
        checks.leave_out(given, ("kind", "replace"), f"{named('file')} says what to remove")
    if first in ("drop", "file"):
        unused = ("criterion", "calibration", "cross_check") if fits else _SCORING_OPTIONS
        checks.leave_out(given, unused, f"{named(first)} names the layers: nothing is scored")
    if first not in TARGETS and how["kind"] != ANY:
        targets = " and ".join(map(named, TARGETS))
        checks.leave_out(given, _FORECAST_OPTIONS, f"only {targets} use the cost model")
    check_kind(how["kind"], (*KINDS, ANY))
    if how["kind"] == ANY:
        checks.leave_out(given, ("drop", "cross_check"), f"{named('kind')} {ANY} ranks two kinds in one")
        checks.measures_damage(how["criterion"])
        operation_named(how["replace"])
    else:
        check_operation(how["replace"], how["kind"])
        if how["cross_check"]:
            checks.cross_checked(how["criterion"], how["kind"])
    if not fits:
        checks.leave_out(given, removal.Fitting.__annotations__, f"nothing is fitted: {named('replace')} is {REMOVE}")
    elif how["layer_by_layer"]:
        checks.leave_out(given, ("judge",), f"with {named('layer_by_layer')} no predictions are compared")
