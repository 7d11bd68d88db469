"""Plots of records: PNG and SVG through matplotlib, a page of its own through plotly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gatenorm.errors import MissingExtraError, OutputError
from gatenorm.files import replacing
from gatenorm.records import Scores
from gatenorm.report.figures.palette import MARKED, PLAIN

FORMATS = (".png", ".svg", ".html")
_CLUSTER = "weak late cluster"


def check_format(path: Path) -> None:
    """Refuse a file name that no plot can be written to.

    Raises:
        OutputError: another ending than .png, .svg or .html, or no such folder.
    """
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"--plot {path}: the ending must be one of {', '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"--plot {path}: there is no folder {path.absolute().parent}")


def plot_scores(scores: Scores, path: Path, marked: Sequence[int] = ()) -> None:
    """Draw one bar a layer, by original layer number, into ``path``; ``marked`` layers stand out.

    Raises:
        OutputError: an unknown ending, or the file cannot be written.
        MissingExtraError: the plotting library is not installed.
    """
    write_plot(
        path,
        static=lambda file: _static(scores, file, set(marked)),
        interactive=lambda file: write_page(scores_figure(scores, marked), file),
    )


def write_plot(path: Path, static: Callable[[Path], None], interactive: Callable[[Path], None]) -> None:
    """Draw into ``path``, whole or not at all: ``static`` for .png and .svg, ``interactive`` for .html.

    Raises:
        OutputError: an unknown ending, or the file cannot be written.
    """
    check_format(path)
    with replacing(path) as temporary:
        (interactive if path.suffix.lower() == ".html" else static)(temporary)


def matplotlib_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("a plot", "matplotlib", "report") from None
    return Figure(figsize=(width, height), layout="constrained")


def plotly_figure(title: str) -> Any:
    """An empty interactive figure.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise MissingExtraError("an HTML plot", "plotly", "report") from None
    return go.Figure(layout={"title": title, "template": "plotly_white"})


def _title(scores: Scores) -> str:
    return f"{scores.model.name}: {scores.criterion} by layer"


def _static(scores: Scores, path: Path, marked: set[int]) -> None:
    figure = matplotlib_figure(min(16.0, max(6.0, 1.5 + 0.28 * len(scores.layers))), 4.0)
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    for layer in scores.layers:
        weak = layer.layer in marked
        axes.bar(
            layer.layer,
            layer.score,
            color=MARKED if weak else PLAIN,
            hatch="///" if weak else None,
            edgecolor="white",
            linewidth=0.5,
        )
    axes.set_title(_title(scores), loc="left")
    axes.set_xlabel("layer (original number)")
    axes.set_ylabel(f"{scores.criterion} (low: removed first)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="0.9")
    if marked:
        axes.legend(handles=[Patch(facecolor=MARKED, hatch="///", edgecolor="white", label=_CLUSTER)])
    figure.savefig(path, dpi=150)


def scores_figure(scores: Scores, marked: Sequence[int] = (), meaning: str = _CLUSTER) -> Any:
    """One bar a layer as an interactive figure; ``meaning`` says why the ``marked`` ones stand out.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    figure = plotly_figure(_title(scores))
    figure.update_layout(bargap=0.15)
    for name, weak in (("layers", False), (meaning, True)):
        chosen = [s for s in scores.layers if (s.layer in marked) == weak]
        if chosen:
            figure.add_bar(
                x=[s.layer for s in chosen],
                y=[s.score for s in chosen],
                name=name,
                marker={
                    "color": MARKED if weak else PLAIN,
                    "pattern": {"shape": "/" if weak else "", "fillmode": "overlay", "solidity": 0.25},
                },
                hovertemplate="layer %{x}: %{y:.5g}<extra></extra>",
            )
    figure.update_xaxes(title="layer (original number)", dtick=1 if len(scores.layers) <= 48 else None)
    figure.update_yaxes(title=f"{scores.criterion} (low: removed first)")
    return figure


def write_page(figure: Any, path: Path) -> None:
    """One interactive figure as a page of its own that needs no network."""
    figure.write_html(path, include_plotlyjs=True, full_html=True)
