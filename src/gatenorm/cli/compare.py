"""``gatenorm compare``: how far criteria agree on a model, and what each of them cost."""

from __future__ import annotations

from typing import Any

from gatenorm.cli import checks, console
from gatenorm.cli.options import common, ranking

NAME = "compare"
EXAMPLE = "Example: gatenorm compare ./llama --criteria gate-norm,cosine@random,cosine@self --plot agreement.svg"
# Of so many criteria every two are shown; of more, each with the last.
_ALL_PAIRS = 6


def command(
    *,
    model: common.Model,
    criteria: ranking.Criteria = ("gate-norm", "gate-norm-heads", "cosine@random", "cosine@self"),
    bound: ranking.Bound,
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
    selection: ranking.SelectionPlot,
    heads: ranking.HeadsPlot,
    seed: common.RandomSeed,
) -> None:
    """Score MODEL by several criteria and show how far they agree; a weight-only one is only a proxy for the others."""
    from gatenorm import api
    from gatenorm.criteria.criterion_spec import criterion_specs

    console.check_json(json)
    console.check_plots(plot=plot, selection=selection, heads=heads)
    checks.activations(activations, layer_by_layer)
    tokens = checks.tokens(calibration, samples, length, documents, seed, batch_size)
    criterion_specs(criteria, tokens)
    console.quiet_transformers()
    session = api.session(
        model, family=family, device=device, dtype=dtype, layer_by_layer=layer_by_layer, activations=activations
    )
    with console.progress_bar("comparing criteria", "steps") as progress:
        found = api.compare(session, criteria, calibration=tokens, bound=bound, seed=seed, progress=progress)
    if json:
        console.write_json(json, found)
    if plot:
        from gatenorm.report.figures.agreement import plot_agreement

        plot_agreement(found, plot)
    if selection:
        from gatenorm.report.figures.selection import plot_selection

        plot_selection(found.scores, selection)
    if heads:
        from gatenorm.report.figures.heads import plot_heads

        plot_heads(api.score(session.layout, "gate-norm-heads"), heads)
    if json != "-":
        _show(found)


def _show(found: Any) -> None:
    from gatenorm.analysis.agreement import label

    console.print_table(_costs(found))
    if any(scores.calibration for scores in found.scores):
        console.say("seconds are what each would take alone: the model is loaded once, and one pass can serve several")
    console.print_table(_choices(found))
    console.print_table(_agreements(found))
    if len(found.scores) > _ALL_PAIRS:
        console.say(
            f"only pairs with {label(found.scores[-1])} are shown, the last one named: all are in --json, --plot"
        )
    if found.bound:
        console.print_table(_bounds(found.bound))
        console.say(
            "the bound: a head differs from the running mean of its values by at most min(exp(2B) - 1, 2) max|v|; "
            "where the 2 applies it is vacuous, and the ranking an empirical matter"
        )
    for scores in found.scores:
        for note in scores.notes:
            console.say(f"note: {label(scores)}: {note}")
    for warning in found.warnings:
        console.say(f"warning: {warning.message}")


def _costs(found: Any) -> Any:
    from rich.table import Table
    from rich.text import Text

    from gatenorm.analysis.agreement import label

    table = Table(title=Text(f"{found.model.name}: what each criterion took"), title_justify="left")
    table.add_column("criterion", overflow="fold")
    for column in ("tokens", "seconds", "read"):
        table.add_column(column, justify="right")
    table.add_column("weakest first", overflow="fold")
    for scores in found.scores:
        tokens = f"{scores.calibration['tokens']:,}" if scores.calibration else "none"
        ranking = ", ".join(map(str, scores.ranking))
        read = console.bytes_for_people(scores.bytes_read)
        table.add_row(label(scores), tokens, f"{scores.seconds:.2f}", read, ranking)
    return table


def _choices(found: Any) -> Any:
    """A row a criterion, a column a layer: the smallest budget at which the layer goes."""
    from rich.table import Table

    from gatenorm.analysis.agreement import BUDGETS, by_layer, label
    from gatenorm.surgery.planning import count_for_share

    budgets = ", ".join(f"{100 * share:.0f}" for share in BUDGETS)
    table = Table(
        title=f"layers that go first: the budget ({budgets} %) at which each goes", title_justify="left", padding=(0, 0)
    )
    table.add_column("criterion", overflow="fold")
    layers = sorted(by_layer(found.scores[0]))
    for layer in layers:
        table.add_column(str(layer), justify="right")
    for scores in found.scores:
        at: dict[int, str] = {}
        for share in sorted(BUDGETS, reverse=True):
            at |= dict.fromkeys(scores.ranking[: count_for_share(share, len(layers))], f"{100 * share:.0f}")
        table.add_row(label(scores), *(at.get(layer, "·") for layer in layers))
    return table


def _agreements(found: Any) -> Any:
    from rich.table import Table

    table = Table(title="agreement: rank correlations, and layers shared at each budget", title_justify="left")
    table.add_column("criteria", overflow="fold")
    table.add_column("Spearman", justify="right")
    table.add_column("Kendall", justify="right")
    for overlap in found.agreements[0].overlaps:
        table.add_column(f"{100 * overlap.share:.0f} %", justify="right")
    for pair in _pairs_for_people(found):
        correlations = ["-" if c is None else f"{c:+.2f}" for c in (pair.spearman, pair.kendall)]
        shared = [f"{len(o.shared)} of {o.count}" for o in pair.overlaps]
        table.add_row(f"{pair.first}, {pair.second}", *correlations, *shared)
    chance = ["by chance", "", "", *(f"{o.chance:.1f} of {o.count}" for o in found.agreements[0].overlaps)]
    table.add_row(*chance, style="dim")
    return table


def _pairs_for_people(found: Any) -> list[Any]:
    """Every two criteria, or, where those would be too many to read, each with the one named last."""
    from gatenorm.analysis.agreement import label

    pairs = list(found.agreements)
    if len(found.scores) <= _ALL_PAIRS:
        return pairs
    return [pair for pair in pairs if pair.second == label(found.scores[-1])]


def _bounds(bound: Any) -> Any:
    from rich.table import Table

    table = Table(title="the bound: distance of heads from the running mean of their values", title_justify="left")
    for column in ("layer", "seen, largest", "limit", "loose by", "logits B", "vacuous heads"):
        table.add_column(column, justify="right")
    for layer in bound.layers:
        low, high = layer.looseness
        logits = f"{min(layer.logits):.3g} to {max(layer.logits):.3g}"
        vacuous = f"{layer.vacuous} of {len(layer.logits)}"
        seen, limit = f"{max(layer.deviation):.3g}", f"{max(layer.limit):.3g}"
        table.add_row(str(layer.layer), seen, limit, f"{low:.3g} to {high:.3g} times", logits, vacuous)
    return table
