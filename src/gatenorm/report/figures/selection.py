"""The paper's selection diagram: a row a criterion, a column a layer, and the budget at which each layer goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatenorm.analysis.agreement import BUDGETS, by_layer, label
from gatenorm.records import Scores
from gatenorm.report.figures.palette import GAP, KEPT, SHADES
from gatenorm.report.figures.plots import matplotlib_figure, plotly_figure, write_page, write_plot
from gatenorm.surgery.planning import count_for_share


def plot_selection(rankings: Sequence[Scores], path: Path) -> None:
    """Draw which layers every ranking removes at 10, 20, 40 and 50 %, into a .png, .svg or .html file.

    Raises:
        OutputError, MissingExtraError: as ``write_plot`` and the drawing libraries.
    """
    layers = sorted(by_layer(rankings[0]))
    cells = [removed_from(scores, layers) for scores in rankings]
    names = [label(scores) for scores in rankings]
    title = _title(rankings)
    write_plot(
        path,
        static=lambda file: _static(file, title, names, layers, cells),
        interactive=lambda file: write_page(selection_figure(rankings), file),
    )


def _title(rankings: Sequence[Scores]) -> str:
    return f"{rankings[0].model.name}: which attention sublayers each criterion removes"


def removed_from(scores: Scores, layers: Sequence[int]) -> list[int]:
    """For every layer the index of the smallest budget at which it goes; ``len(BUDGETS)`` for those that stay."""
    counts = [count_for_share(share, len(layers)) for share in BUDGETS]
    place = {layer: n for n, layer in enumerate(scores.ranking)}
    return [next((n for n, count in enumerate(counts) if place[layer] < count), len(counts)) for layer in layers]


def _static(file: Path, title: str, names: Sequence[str], layers: Sequence[int], cells: list[list[int]]) -> None:
    figure = matplotlib_figure(max(6.5, 2.6 + 0.34 * len(layers)), 1.5 + 0.42 * len(names))
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    axes = figure.add_subplot()
    colours = ListedColormap([*SHADES, KEPT])
    axes.pcolormesh(cells, cmap=colours, vmin=0, vmax=len(SHADES), edgecolors="0.75", linewidth=0.6)
    axes.invert_yaxis()
    axes.set_xticks([n + 0.5 for n in range(len(layers))], [str(layer) for layer in layers], fontsize=8)
    axes.set_yticks([n + 0.5 for n in range(len(names))], names)
    axes.set_xlabel("layer (original number)")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)  # over the names too: a few layers leave it no room
    axes.tick_params(length=0)
    for row, budgets in enumerate(cells):
        for column, budget in enumerate(budgets):
            if budget < len(BUDGETS):
                colour = "white" if budget < 2 else "black"
                text = f"{100 * BUDGETS[budget]:.0f}"
                axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=7)
    handles = [
        Patch(facecolor=shade, edgecolor="0.5", label=f"{100 * share:.0f} %")
        for shade, share in zip(SHADES, BUDGETS, strict=True)
    ]
    handles.append(Patch(facecolor=KEPT, edgecolor="0.5", label="kept at 50 %"))
    figure.legend(
        handles=handles,
        title="removed from a budget of",
        ncols=5,
        loc="outside lower center",
        frameon=False,
        fontsize=8,
    )
    figure.savefig(file, dpi=150)


def selection_figure(rankings: Sequence[Scores]) -> Any:
    """The selection diagram as an interactive figure.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    layers = sorted(by_layer(rankings[0]))
    names = [label(scores) for scores in rankings]
    cells = [removed_from(scores, layers) for scores in rankings]
    figure = plotly_figure(_title(rankings))
    words = [*(f"removed from {100 * share:.0f} %" for share in BUDGETS), "kept at 50 %"]
    colours = [*SHADES, KEPT]
    scale = [[edge, colour] for n, colour in enumerate(colours) for edge in (n / 5, (n + 1) / 5)]
    figure.add_heatmap(
        z=cells,
        x=[str(layer) for layer in layers],
        y=list(names),
        zmin=-0.5,
        zmax=len(BUDGETS) + 0.5,
        colorscale=scale,
        xgap=1,
        ygap=1,
        text=[[words[budget] for budget in row] for row in cells],
        hovertemplate="%{y}, layer %{x}: %{text}<extra></extra>",
        colorbar={"tickvals": list(range(5)), "ticktext": words},
    )
    figure.update_xaxes(title="layer (original number)", type="category", showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_layout(plot_bgcolor=GAP)
    return figure
