"""The agreement matrix: rank correlations of every two criteria, as numbers on colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatenorm.analysis.agreement import label
from gatenorm.analysis.comparison import Comparison
from gatenorm.report.figures.palette import DIVERGING
from gatenorm.report.figures.plots import matplotlib_figure, plotly_figure, write_page, write_plot


def plot_agreement(comparison: Comparison, path: Path) -> None:
    """Draw Spearman's rank correlation of every two criteria into a .png, .svg or .html file.

    Raises:
        OutputError, MissingExtraError: as ``write_plot`` and the drawing libraries.
    """
    names = [label(scores) for scores in comparison.scores]
    known = {(a.first, a.second): a.spearman for a in comparison.agreements}
    matrix = [[1.0 if a == b else known.get((a, b), known.get((b, a))) for b in names] for a in names]
    layers = len(comparison.scores[0].layers)
    title = f"{comparison.model.name}: rank correlation of {layers} layers"
    write_plot(
        path,
        static=lambda file: _static(file, title, names, matrix),
        interactive=lambda file: write_page(agreement_figure(names, matrix, title), file),
    )


def _static(file: Path, title: str, names: list[str], matrix: list[list[float | None]]) -> None:
    side = 2.6 + 0.62 * len(names)
    figure = matplotlib_figure(max(5.5, side + 0.6), max(4.2, side - 0.6))
    from matplotlib.colors import LinearSegmentedColormap

    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("agreement", DIVERGING)
    values = [[float("nan") if v is None else v for v in row] for row in matrix]
    image = axes.imshow(values, cmap=colours, vmin=-1, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left", fontsize=11)
    for row, line in enumerate(matrix):
        for column, value in enumerate(line):
            text = "-" if value is None else f"{value:+.2f}"
            colour = "white" if value is not None and abs(value) > 0.7 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    figure.colorbar(image, label="Spearman's rank correlation", shrink=0.8)
    figure.savefig(file, dpi=150)


def agreement_figure(names: Sequence[str], matrix: Sequence[Sequence[float | None]], title: str = "") -> Any:
    """Rank correlations, row by column, as an interactive figure.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    figure = plotly_figure(title)
    figure.add_heatmap(
        z=[list(row) for row in matrix],
        x=list(names),
        y=list(names),
        zmin=-1,
        zmax=1,
        colorscale=[[0, DIVERGING[0]], [0.5, DIVERGING[1]], [1, DIVERGING[2]]],
        texttemplate="%{z:+.2f}",
        hovertemplate="%{y}, %{x}: %{z:+.3f}<extra></extra>",
        colorbar={"title": "Spearman"},
    )
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure
