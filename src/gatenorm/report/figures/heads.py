"""The heat map of per-head values, head by layer."""

from __future__ import annotations

from pathlib import Path

from gatenorm.analysis.agreement import label
from gatenorm.errors import OutputError
from gatenorm.records import Scores
from gatenorm.report.figures.plots import matplotlib_figure, plotly_figure, write_page, write_plot


def plot_heads(scores: Scores, path: Path) -> None:
    """Draw a criterion's values head by head (a column a layer, a row a head) into a .png, .svg or .html file.

    Raises:
        OutputError: the criterion has no values per head, or as ``write_plot``.
        MissingExtraError: the drawing libraries are not installed.
    """
    if not all(layer.heads for layer in scores.layers):
        raise OutputError(f"{label(scores)} has no values per head: score by gate-norm-heads")
    layers = [layer.layer for layer in scores.layers]
    values = [list(row) for row in zip(*(layer.heads for layer in scores.layers), strict=True)]
    title = f"{scores.model.name}: {label(scores)} of every head"
    write_plot(
        path,
        static=lambda file: _static(file, title, label(scores), layers, values),
        interactive=lambda file: _interactive(file, title, label(scores), layers, values),
    )


def _static(file: Path, title: str, name: str, layers: list[int], values: list[list[float]]) -> None:
    heads = len(values)
    figure = matplotlib_figure(max(6.0, 2.4 + 0.3 * len(layers)), min(10.0, max(2.8, 1.5 + 0.25 * heads)))
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    image = axes.pcolormesh(values, cmap="cividis")  # made to look alike to all kinds of eyes
    axes.set_xticks([n + 0.5 for n in range(len(layers))], [str(layer) for layer in layers], fontsize=8)
    if heads <= 16:
        axes.set_yticks([n + 0.5 for n in range(heads)], [str(n) for n in range(heads)], fontsize=8)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.set_xlabel("layer (original number)")
    axes.set_ylabel("query head")
    axes.set_title(title, loc="left", fontsize=11)
    figure.colorbar(image, label=f"{name} (no unit)")
    figure.savefig(file, dpi=150)


def _interactive(file: Path, title: str, name: str, layers: list[int], values: list[list[float]]) -> None:
    figure = plotly_figure(title)
    figure.add_heatmap(
        z=values,
        x=[str(layer) for layer in layers],
        y=[str(n) for n in range(len(values))],
        colorscale="Cividis",
        hovertemplate="layer %{x}, head %{y}: %{z:.5g}<extra></extra>",
        colorbar={"title": name},
    )
    figure.update_xaxes(title="layer (original number)", type="category")
    figure.update_yaxes(title="query head", autorange="reversed", type="category")
    write_page(figure, file)
