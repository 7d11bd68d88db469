"""Heat maps of records: accuracy of retrieval by context length and depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatenorm.errors import MissingExtraError, OutputError
from gatenorm.files import replacing
from gatenorm.records import Evidence
from gatenorm.report.figures.plots import plotly_figure

FORMATS = (".png", ".svg")


def check_heat_map(path: Path) -> None:
    """Refuse a file name that no heat map can be written to.

    Raises:
        OutputError: another ending than .png or .svg, or no such folder.
    """
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"--plot {path}: the ending must be one of {', '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"--plot {path}: there is no folder {path.absolute().parent}")


def plot_retrieval(records: Sequence[Evidence], path: Path) -> None:
    """Draw the share of right choices, length by depth, one panel for each retrieval record, into ``path``.

    Raises:
        OutputError: there is no retrieval record, an unknown ending, or the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    check_heat_map(path)
    own = [record for record in records if record.kind == "retrieval"]
    if not own:
        raise OutputError(f"--plot {path}: nothing to draw; it shows the task retrieval (--tasks retrieval)")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("a plot", "matplotlib", "report") from None
    figure = Figure(figsize=(1 + 4.2 * len(own), 3.6), layout="constrained")
    image = None
    for number, record in enumerate(own):
        lengths, depths, grid = cells(record)
        axes = figure.add_subplot(1, len(own), number + 1)
        image = axes.imshow(grid, vmin=0.0, vmax=1.0, cmap="cividis", aspect="auto")
        axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
        axes.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
        axes.set_xlabel("context, tokens")
        axes.set_ylabel("depth of the fact" if number == 0 else "")
        axes.set_title(f"{record.model.name}: {record.protocol['task']}", loc="left", fontsize=9)
        for row, values in enumerate(grid):
            for column, value in enumerate(values):
                colour = "black" if value > 0.55 else "white"
                axes.text(column, row, f"{value:.0%}", ha="center", va="center", color=colour, fontsize=8)
    if image is not None:
        figure.colorbar(image, ax=figure.axes, label=f"right of four (chance {own[0].figures['chance']:.0%})")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def cells(record: Evidence) -> tuple[list[int], list[float], list[list[float]]]:
    """A retrieval record as its context lengths, its depths and the shares of right choices, a row a depth."""
    lengths, depths = list(record.protocol["lengths"]), list(record.protocol["depths"])
    return lengths, depths, [[record.figures[f"choice_{n}_{depth:g}"] for n in lengths] for depth in depths]


def retrieval_figure(record: Evidence, title: str = "") -> Any:
    """The share of right choices of one retrieval record, length by depth, as an interactive figure.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    lengths, depths, grid = cells(record)
    figure = plotly_figure(title or f"{record.model.name}: {record.protocol['task']}")
    figure.add_heatmap(
        z=grid,
        x=[f"{length:,}" for length in lengths],
        y=[f"{depth:.0%}" for depth in depths],
        zmin=0,
        zmax=1,
        colorscale="Cividis",
        texttemplate="%{z:.0%}",
        hovertemplate="%{x} tokens, %{y} deep: %{z:.0%} right<extra></extra>",
        colorbar={"title": "right of four", "tickformat": ".0%"},
    )
    figure.update_xaxes(title="context, tokens", type="category", showgrid=False)
    figure.update_yaxes(title="depth of the fact", type="category", autorange="reversed", showgrid=False)
    return figure
