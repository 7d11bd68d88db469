"""How far criteria agree, and what each costs."""

from collections.abc import Sequence

from rich.table import Table

from gatenorm.analysis.agreement import BUDGETS, label, removed_from
from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.records.rankings import Agreement, Bound, RankingComparison

# Up to this many criteria all pairs are shown; beyond, each with the last one.
_ALL_PAIRS = 6


def show(comparison: RankingComparison) -> None:
    """What each criterion took and would remove, and how far they agree."""
    console.print_table(_costs(comparison))
    if any(scores.calibration for scores in comparison.scores):
        console.say("seconds are what each would take alone: the model is loaded once, and one pass can serve several")
    console.print_parts(lambda layers: _choices(comparison, layers), sorted(comparison.scores[0].by_layer))
    console.print_table(_agreements(comparison))
    last = label(comparison.scores[-1])
    if len(comparison.scores) > _ALL_PAIRS:
        console.say(f"only pairs with {last} are shown, the last one named: all are in --json, --plot")
    if comparison.bound:
        console.print_table(_bounds(comparison.bound), "seen, largest", "limit")
        console.say(
            "the bound: a head differs from the running mean of its values by at most min(exp(2B) - 1, 2) max|v|; "
            "where the 2 applies it is vacuous, and the ranking an empirical matter"
        )
    console.say_each("note", (f"{label(scores)}: {note}" for scores in comparison.scores for note in scores.notes))
    console.say_each("warning", (warning.message for warning in comparison.warnings))


def _costs(comparison: RankingComparison) -> Table:
    columns = ("criterion", ">tokens", ">seconds", ">read", "weakest first")
    rows = table(f"{comparison.model.name}: what each criterion took", *columns)
    for scores in comparison.scores:
        tokens = f"{scores.calibration.tokens:,}" if scores.calibration else "none"
        read = console.bytes_for_people(scores.bytes_read)
        rows.add_row(label(scores), tokens, f"{scores.seconds:.2f}", read, ", ".join(map(str, scores.ranking)))
    return rows


def _choices(comparison: RankingComparison, layers: Sequence[int]) -> Table:
    """A row a criterion, a column a layer: the smallest budget at which the layer goes."""
    budgets = ", ".join(f"{100 * share:.0f}" for share in BUDGETS)
    title = f"layers that go first: the budget ({budgets} %) at which each goes"
    rows = table(title, "criterion", *(f">{layer}" for layer in layers), padding=(0, 0))
    for scores in comparison.scores:
        cells = (f"{100 * BUDGETS[n]:.0f}" if n < len(BUDGETS) else "·" for n in removed_from(scores, layers))
        rows.add_row(label(scores), *cells)
    return rows


def _agreements(comparison: RankingComparison) -> Table:
    overlaps = comparison.agreements[0].overlaps
    title = "agreement: rank correlations, and layers shared at each budget"
    rows = table(title, "criteria", ">Spearman", ">Kendall", *(f">{100 * o.share:.0f} %" for o in overlaps))
    for pair in _pairs(comparison):
        correlations = ["-" if c is None else f"{c:+.2f}" for c in (pair.spearman, pair.kendall)]
        shared = [f"{len(o.shared)} of {o.count}" for o in pair.overlaps]
        rows.add_row(f"{pair.first}, {pair.second}", *correlations, *shared)
    rows.add_row("by chance", "", "", *(f"{o.chance:.1f} of {o.count}" for o in overlaps), style="dim")
    return rows


def _pairs(comparison: RankingComparison) -> list[Agreement]:
    """Every two criteria, or, where those would be too many to read, each with the one named last."""
    if len(comparison.scores) <= _ALL_PAIRS:
        return list(comparison.agreements)
    return [pair for pair in comparison.agreements if pair.second == label(comparison.scores[-1])]


def _bounds(bound: Bound) -> Table:
    columns = (">layer", ">seen, largest", ">limit", ">loose by", ">logits B", ">vacuous heads")
    rows = table("the bound: distance of heads from the running mean of their values", *columns)
    for layer in bound.layers:
        low, high = layer.looseness
        rows.add_row(
            str(layer.layer),
            f"{max(layer.deviation):.3g}",
            f"{max(layer.limit):.3g}",
            f"{low:.3g} to {high:.3g} times",
            f"{min(layer.logits):.3g} to {max(layer.logits):.3g}",
            f"{layer.vacuous} of {len(layer.logits)}",
        )
    return rows
