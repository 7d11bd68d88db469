"""The paper's selection diagram: a row a criterion, a column a layer, and the budget at which each layer goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gatenorm.calibration.agreement import BUDGETS, by_layer, label
from gatenorm.records import Scores
from gatenorm.report.plots import matplotlib_figure, plotly_figure, write_plot
from gatenorm.surgery.planning import count_for_share

# One hue from dark to light: the order survives print in grey and every kind of colour blindness.
_SHADES = ("#08306b", "#2171b5", "#6baed6", "#c6dbef")
_KEPT = "#ffffff"


def plot_selection(rankings: Sequence[Scores], path: Path) -> None:
    """Draw which layers every ranking removes at 10, 20, 40 and 50 %, into a .png, .svg or .html file.

    Raises:
        OutputError, MissingExtraError: as ``write_plot`` and the drawing libraries.
    """
    layers = sorted(by_layer(rankings[0]))
    cells = [_budgets(scores, layers) for scores in rankings]
    names = [label(scores) for scores in rankings]
    title = f"{rankings[0].model.name}: which attention sublayers each criterion removes"
    write_plot(
        path,
        static=lambda file: _static(file, title, names, layers, cells),
        interactive=lambda file: _interactive(file, title, names, layers, cells),
    )


def _budgets(scores: Scores, layers: Sequence[int]) -> list[int]:
    """For every layer the index of the smallest budget at which it goes; ``len(BUDGETS)`` for those that stay."""
    counts = [count_for_share(share, len(layers)) for share in BUDGETS]
    place = {layer: n for n, layer in enumerate(scores.ranking)}
    return [next((n for n, count in enumerate(counts) if place[layer] < count), len(counts)) for layer in layers]


def _static(file: Path, title: str, names: Sequence[str], layers: Sequence[int], cells: list[list[int]]) -> None:
    figure = matplotlib_figure(max(6.5, 2.6 + 0.34 * len(layers)), 1.5 + 0.42 * len(names))
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    axes = figure.add_subplot()
    colours = ListedColormap([*_SHADES, _KEPT])
    axes.pcolormesh(cells, cmap=colours, vmin=0, vmax=len(_SHADES), edgecolors="0.75", linewidth=0.6)
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
        for shade, share in zip(_SHADES, BUDGETS, strict=True)
    ]
    handles.append(Patch(facecolor=_KEPT, edgecolor="0.5", label="kept at 50 %"))
    figure.legend(
        handles=handles,
        title="removed from a budget of",
        ncols=5,
        loc="outside lower center",
        frameon=False,
        fontsize=8,
    )
    figure.savefig(file, dpi=150)


def _interactive(file: Path, title: str, names: Sequence[str], layers: Sequence[int], cells: list[list[int]]) -> None:
    figure = plotly_figure(title)
    words = [*(f"removed from {100 * share:.0f} %" for share in BUDGETS), "kept at 50 %"]
    colours = [*_SHADES, _KEPT]
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
    figure.update_layout(plot_bgcolor="#999999")
    figure.write_html(file, include_plotlyjs=True, full_html=True)
