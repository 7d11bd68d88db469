"""``gatenorm score``: which attention sublayers are asleep, from the weights alone unless told otherwise."""

from __future__ import annotations

from typing import Any

from gatenorm.cli import checks, console
from gatenorm.cli.options import common, ranking
from gatenorm.records import to_json

NAME = "score"
EXAMPLE = "Example: gatenorm score ./llama --criterion gate-norm --json scores.json --plot scores.svg"
_BAR = 40
# Of the seconds of a scoring that runs the model, what is not the passes themselves.
_BEFORE = {"loading": "loading the model", "drawing": "drawing tokens"}
_GONE = {"attention": "attention", "mlp": "MLP"}


def command(
    *,
    model: common.Model,
    criterion: ranking.Criterion,
    kind: ranking.Kind,
    backend: ranking.Backend,
    cross_check: ranking.CrossCheck,
    calibration: ranking.Calibration,
    samples: ranking.Samples,
    length: ranking.Length,
    documents: ranking.Documents,
    layer_by_layer: ranking.LayerByLayer,
    activations: ranking.Activations,
    family: common.Family,
    device: common.Device,
    dtype: common.Dtype,
    batch_size: common.BatchSize,
    json: common.Json,
    plot: common.Plot,
    seed: common.RandomSeed,
) -> None:
    """Score every sublayer of MODEL, attention by default and from weights alone; the lowest are removed first."""
    from gatenorm import api
    from gatenorm.analysis.clusters import late_cluster

    console.check_json(json)
    console.check_plots(plot=plot)
    checks.activations(activations, layer_by_layer)
    tokens = checks.tokens(calibration, samples, length, documents, seed, batch_size)
    runs = checks.runs_the_model(criterion, tokens, given=calibration is not None)
    ranked = checks.ranked(criterion, kind)
    if cross_check:
        checks.cross_checked(ranked)
    layout = api.open_model(model, family, fetch=runs or cross_check)
    session = None
    if runs or cross_check:
        console.quiet_transformers()
        session = api.session(
            layout, device=device, dtype=dtype, layer_by_layer=layer_by_layer, activations=activations
        )
    with console.progress_bar(f"scoring by {criterion}", "steps") as progress:
        scores = api.score(
            session if runs and session else layout,
            criterion,
            kind=kind,
            seed=seed,
            backend=backend,
            device=device,
            calibration=tokens if runs else None,
            progress=progress,
        )
    checked = None
    if cross_check and session:
        with console.progress_bar("cross-check", "tokens") as progress:
            checked = api.cross_check(session, scores, calibration=tokens, progress=progress)
    cluster = late_cluster(scores)
    if json:
        console.write_json(json, to_json(scores) | ({"cross_check": to_json(checked)} if checked else {}))
    if plot:
        from gatenorm.report.figures.scores import plot_scores

        plot_scores(scores, plot, marked=cluster.members)
    if json == "-":
        return
    console.print_table(_table(scores, set(cluster.members), layout))
    console.say(
        f"{_work(scores)}; weakest first: "
        + ", ".join(map(str, scores.ranking[:10]))
        + (", ..." if len(scores.ranking) > 10 else "")
    )
    if layout.edits.mlp and ranked == "block":
        console.say("layers that have lost one of the two sublayers are no blocks any more and have no score")
    verdict = "a clear cluster of weak late layers" if cluster else "no clear cluster of weak late layers"
    console.say(f"{verdict}: {cluster.reason}")
    for note in scores.notes:
        console.say(f"note: {note}")
    if checked:
        console.show_cross_check(checked)
    if not runs:
        console.say(
            "A weight-only score is a heuristic: check the pruned model on text of your own before you trust it"
            + ("." if checked else ", or begin with --cross-check.")
        )
    if plot:
        console.say(f"plot: {plot}")


def _work(scores: Any) -> str:
    """What it took: bytes of weights, or forward passes and what came before them."""
    if scores.calibration is None:
        return f"read {console.bytes_for_people(scores.bytes_read)} in {scores.seconds:.2f} s"
    parts = scores.calibration["seconds"]
    before = ", ".join(f"{name} {parts[key]:.2f} s" for key, name in _BEFORE.items() if parts[key])
    return f"forward passes took {parts['passes']:.2f} s" + (f" ({before})" if before else "")


def _table(scores: Any, cluster: set[int], layout: Any) -> Any:
    from rich.table import Table
    from rich.text import Text

    from gatenorm.analysis.agreement import label
    from gatenorm.criteria.registry import criterion
    from gatenorm.records import ATTENTION, SINGULAR

    summary = criterion(scores.criterion).summary
    what = "" if scores.kind == ATTENTION else f" of {SINGULAR[scores.kind]}s"
    table = Table(title=Text(f"{scores.model.name}: {label(scores)}{what} ({summary})"), title_justify="left")
    table.add_column("layer", justify="right")
    table.add_column("score", justify="right")
    table.add_column("rank", justify="right")
    table.add_column("0 to the largest score", min_width=_BAR)
    by_layer = {s.layer: s.score for s in scores.layers}
    largest = max(by_layer.values()) or 1.0
    rank = {layer: position + 1 for position, layer in enumerate(scores.ranking)}
    for layer in range(layout.layers):
        if layer not in by_layer:
            gone = " and ".join(_GONE[edit.sublayer] for edit in layout.edits.at(layer))
            table.add_row(str(layer), "-", "-", Text(f"{gone} removed", style="dim"))
            continue
        length = max(0.0, by_layer[layer]) / largest * _BAR
        style = "yellow" if layer in cluster else "cyan"
        mark = " weak" if layer in cluster else ""
        table.add_row(str(layer), f"{by_layer[layer]:.5g}", str(rank[layer]), Text(_bar(length) + mark, style=style))
    return table


def _bar(length: float) -> str:
    """A bar of ``length`` characters to an eighth of one; never empty, so that the smallest can be seen."""
    eighths = max(1, round(length * 8))
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
