"""``gatenorm score``: which sublayers contribute least, from the weights alone unless another criterion is named."""

import sys
from typing import Unpack

import typer

from gatenorm.cli import checks, console
from gatenorm.cli.options import common, ranking, removal
from gatenorm.errors import named
from gatenorm.records import ANY, KINDS, to_json

NAME = "score"
EXAMPLE = "Example: gatenorm score ./llama --criterion gate-norm --json scores.json --plot scores.svg"

# What a ranking of both kinds rests on besides scores.
_BOTH_OPTIONS = ("replace", "machine", "context", "batch")
# Options of `score` that the command which comes next does not repeat.
_NOT_OF_PRUNE = ("model", "kind", "backend", "cross_check", "json", "csv", "plot")


def command(
    *,
    given: typer.Context,
    model: common.Model,
    criterion: ranking.Criterion,
    kind: ranking.Kind,
    backend: ranking.Backend,
    cross_check: ranking.CrossCheck,
    replace: removal.Replace,
    machine: removal.Machine,
    context: removal.Context,
    batch: removal.Batch,
    json: common.Json,
    csv: common.Csv,
    plot: common.Plot,
    **how: Unpack[ranking.Scoring],
) -> None:
    """Score every sublayer of MODEL, attention by default and from weights alone; the lowest are removed first."""
    from gatenorm import api
    from gatenorm.analysis.diagnostics import late_cluster
    from gatenorm.cli.tables.scores import show, show_both
    from gatenorm.criteria.scoring import bytes_to_read
    from gatenorm.surgery.planning import check_kind

    if kind is not None:
        check_kind(kind, (*KINDS, ANY))
    tokens = checks.tokens(how, how["documents"])
    if kind == ANY:
        checks.leave_out(given, ("backend", "cross_check", "plot"), f"{named('kind')} {ANY} ranks two kinds in one")
        checks.measures_damage(criterion)
    else:
        checks.leave_out(given, _BOTH_OPTIONS, f"only {named('kind')} {ANY} weighs damage against what is saved")
    runs = checks.runs_the_model(criterion, tokens, given=how["calibration"] is not None)
    if runs:
        checks.leave_out(given, ("backend",), f"{criterion} runs the model")
    elif not cross_check:
        checks.leave_out(given, ranking.RUN_OPTIONS, f"{criterion} reads weights alone")
    if cross_check:
        checks.cross_checked(criterion, kind)
    layout = api.open_model(model, how["family"], fetch=runs or cross_check)
    opened = checks.scoring_session(layout, how) if runs or cross_check else layout
    if layout.checkpoint.remote and not console.is_quiet():
        nbytes = console.bytes_for_people(bytes_to_read(layout, criterion, kind))
        sys.stderr.write(f"fetching {nbytes} of {layout.checkpoint.name}: the weights that {criterion} reads\n")
    options = checks.retyped(given, leaving_out=(*_NOT_OF_PRUNE, *(() if runs else ranking.RUN_OPTIONS)))
    if kind == ANY:
        with console.progress_bar(f"scoring by {criterion}", "steps") as progress:
            both = api.rank_sublayers(
                opened,
                criterion=criterion,
                replace=replace,
                machine=machine,
                context=context,
                batch=batch,
                calibration=tokens,
                progress=progress,
            )
        console.deliver(json, both, lambda: show_both(both, model, options), csv, both.rows())
        return
    with console.progress_bar(f"scoring by {criterion}", "steps") as progress:
        scores = api.score(
            opened,
            criterion,
            kind=kind,
            seed=how["seed"],
            backend=backend,
            device=how["device"],
            calibration=tokens if runs else None,
            progress=progress,
        )
    checked = None
    if cross_check:
        with console.progress_bar("cross-check", "tokens") as progress:
            checked = api.cross_check(opened, scores, calibration=tokens, progress=progress)
    cluster = late_cluster(scores)
    if plot:
        from gatenorm.report.figures.rankings import plot_scores

        plot_scores(scores, plot, marked=cluster.members)
    data = to_json(scores) | ({"cross_check": to_json(checked)} if checked else {})
    console.deliver(
        json, data, lambda: show(scores, layout, cluster, checked, plot, model, options), csv, scores.rows()
    )
