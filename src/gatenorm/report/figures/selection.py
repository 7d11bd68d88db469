"""The paper's selection diagram: a row a criterion, a column a layer, and the budget at which each layer is removed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gatenorm.analysis.agreement import BUDGETS, by_layer, label
from gatenorm.records import Scores
from gatenorm.report.figures.drawing import Figure, fitted, write_figure
from gatenorm.report.figures.grid import Tile, grid_chart
from gatenorm.report.figures.palette import INK, ON_COLOUR, PAPER, SHADES
from gatenorm.surgery.planning import count_for_share


def removed_from(scores: Scores, layers: Sequence[int]) -> list[int]:
    """For every layer the index of the smallest budget that removes it; ``len(BUDGETS)`` for those kept."""
    counts = [count_for_share(share, len(layers)) for share in BUDGETS]
    place = {layer: n for n, layer in enumerate(scores.ranking)}
    return [next((n for n, count in enumerate(counts) if place[layer] < count), len(counts)) for layer in layers]


def selection_figure(rankings: Sequence[Scores]) -> Figure:
    """Which layers every ranking removes at 10, 20, 40 and 50 %; the darker, the sooner."""
    layers = sorted(by_layer(rankings[0]))
    tiles = []
    for scores in rankings:
        for layer, n in zip(layers, removed_from(scores, layers), strict=True):
            kept = n == len(BUDGETS)
            fate = f"kept at {BUDGETS[-1]:.0%}" if kept else f"removed from {BUDGETS[n]:.0%}"
            tiles.append(
                Tile(
                    column=str(layer),
                    row=label(scores),
                    tip=f"{label(scores)}, layer {layer}: {fate}",
                    colour=PAPER if kept else SHADES[n],
                    text="" if kept else f"{100 * BUDGETS[n]:.0f}",
                    ink=ON_COLOUR if n < 2 else INK,
                )
            )
    title = "layer (original number); in cells the budget in % from which it is removed, empty cells are kept"
    return lambda width: fitted(grid_chart(tiles, width, x=title if width > 600 else "layer", text_width=18), width)


def plot_selection(rankings: Sequence[Scores], path: Path) -> None:
    """Draw the selection diagram into a .png, .svg or .html file.

    Raises:
        OutputError: as ``write_figure``.
    """
    title = f"{rankings[0].model.name}: which attention sublayers each criterion removes"
    write_figure(path, selection_figure(rankings), title, "selection")
