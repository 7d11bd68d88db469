"""How far criteria agree, and what each costs."""

from __future__ import annotations

from typing import Any

from gatenorm.cli import console
from gatenorm.cli.tables import table

# Up to this many criteria all pairs are shown; beyond, each with the last one.
_ALL_PAIRS = 6


def show(found: Any) -> None:
    """What each criterion took and would remove, and how far they agree."""
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
    from gatenorm.analysis.agreement import label

    columns = ("criterion", ">tokens", ">seconds", ">read", "weakest first")
    made = table(f"{found.model.name}: what each criterion took", *columns)
    for scores in found.scores:
        tokens = f"{scores.calibration['tokens']:,}" if scores.calibration else "none"
        ranking = ", ".join(map(str, scores.ranking))
        read = console.bytes_for_people(scores.bytes_read)
        made.add_row(label(scores), tokens, f"{scores.seconds:.2f}", read, ranking)
    return made


def _choices(found: Any) -> Any:
    """A row a criterion, a column a layer: the smallest budget at which the layer goes."""
    from gatenorm.analysis.agreement import BUDGETS, by_layer, label
    from gatenorm.surgery.planning import count_for_share

    budgets = ", ".join(f"{100 * share:.0f}" for share in BUDGETS)
    layers = sorted(by_layer(found.scores[0]))
    title = f"layers that go first: the budget ({budgets} %) at which each goes"
    made = table(title, "criterion", *(f">{layer}" for layer in layers), padding=(0, 0))
    for scores in found.scores:
        at: dict[int, str] = {}
        for share in sorted(BUDGETS, reverse=True):
            at |= dict.fromkeys(scores.ranking[: count_for_share(share, len(layers))], f"{100 * share:.0f}")
        made.add_row(label(scores), *(at.get(layer, "·") for layer in layers))
    return made


def _agreements(found: Any) -> Any:
    shares = [f">{100 * overlap.share:.0f} %" for overlap in found.agreements[0].overlaps]
    title = "agreement: rank correlations, and layers shared at each budget"
    made = table(title, "criteria", ">Spearman", ">Kendall", *shares)
    for pair in _pairs_for_people(found):
        correlations = ["-" if c is None else f"{c:+.2f}" for c in (pair.spearman, pair.kendall)]
        shared = [f"{len(o.shared)} of {o.count}" for o in pair.overlaps]
        made.add_row(f"{pair.first}, {pair.second}", *correlations, *shared)
    chance = ["by chance", "", "", *(f"{o.chance:.1f} of {o.count}" for o in found.agreements[0].overlaps)]
    made.add_row(*chance, style="dim")
    return made


def _pairs_for_people(found: Any) -> list[Any]:
    """Every two criteria, or, where those would be too many to read, each with the one named last."""
    from gatenorm.analysis.agreement import label

    pairs = list(found.agreements)
    if len(found.scores) <= _ALL_PAIRS:
        return pairs
    return [pair for pair in pairs if pair.second == label(found.scores[-1])]


def _bounds(bound: Any) -> Any:
    columns = (">layer", ">seen, largest", ">limit", ">loose by", ">logits B", ">vacuous heads")
    made = table("the bound: distance of heads from the running mean of their values", *columns)
    for layer in bound.layers:
        low, high = layer.looseness
        logits = f"{min(layer.logits):.3g} to {max(layer.logits):.3g}"
        vacuous = f"{layer.vacuous} of {len(layer.logits)}"
        seen, limit = f"{max(layer.deviation):.3g}", f"{max(layer.limit):.3g}"
        made.add_row(str(layer.layer), seen, limit, f"{low:.3g} to {high:.3g} times", logits, vacuous)
    return made
