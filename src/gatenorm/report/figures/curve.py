"""Perplexity by number of removed sublayers, a line a criterion, above the band of random choices."""

from __future__ import annotations

import math
from pathlib import Path

from gatenorm.analysis.curve_lines import Curve
from gatenorm.report.figures.palette import BAND, SERIES
from gatenorm.report.figures.plots import matplotlib_figure, plotly_figure, write_page, write_plot

# Markers and dashes tell lines apart without colour.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
_BAND = "0.8"


def plot_curve(curve: Curve, path: Path) -> None:
    """Draw a curve into a .png, .svg or .html file; the axis of perplexity is logarithmic.

    Raises:
        OutputError, MissingExtraError: as ``write_plot`` and the drawing libraries.
    """
    write_plot(path, static=lambda file: _static(curve, file), interactive=lambda file: _interactive(curve, file))


def _title(curve: Curve) -> str:
    return f"{curve.model.name}: perplexity on {curve.data['name']}"


def _static(curve: Curve, file: Path) -> None:
    figure = matplotlib_figure(9.0, 4.8)
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    axes = figure.add_subplot()
    spread = {n: values for n, values in curve.spread().items() if all(map(math.isfinite, values))}
    if spread:
        counts = list(spread)
        low, mean, high = zip(*spread.values(), strict=True)
        name = f"random, {len(curve.band)} draws:\nleast to largest"
        axes.fill_between(counts, low, high, color=_BAND, linewidth=0, label=name)
        axes.plot(counts, mean, color="0.45", linewidth=1, label="random, geom. mean")
    for n, line in enumerate(curve.lines):
        counts = [c for c in sorted(line.perplexity) if math.isfinite(line.perplexity[c])]
        axes.plot(
            counts,
            [line.perplexity[c] for c in counts],
            color=SERIES[n % len(SERIES)],
            marker=MARKERS[(n + n // len(SERIES)) % len(MARKERS)],  # another one when colours come round again
            linestyle=DASHES[n % len(DASHES)],
            markersize=4.5,
            label=line.name,
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = axes.get_ylim()
    if high / low < 20:  # powers of ten alone would leave the axis without numbers
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("attention sublayers removed")
    axes.set_ylabel("perplexity per token (log scale)")
    axes.set_title(_title(curve), loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8.5)
    figure.savefig(file, dpi=150)


def _interactive(curve: Curve, file: Path) -> None:
    figure = plotly_figure(_title(curve))
    spread = curve.spread()
    if spread:
        counts = list(spread)
        low, _, high = zip(*spread.values(), strict=True)
        edge = {"color": "rgba(0,0,0,0)"}
        figure.add_scatter(x=counts, y=low, line=edge, showlegend=False, hoverinfo="skip")
        name = f"random, {len(curve.band)} draws"
        figure.add_scatter(x=counts, y=high, line=edge, fill="tonexty", fillcolor=BAND, name=name)
    for n, line in enumerate(curve.lines):
        counts = sorted(line.perplexity)
        figure.add_scatter(
            x=counts,
            y=[line.perplexity[c] for c in counts],
            name=line.name,
            mode="lines+markers",
            line={"color": SERIES[n % len(SERIES)]},
            text=[", ".join(map(str, sorted(line.removed[c]))) or "none" for c in counts],
            hovertemplate="%{x} removed (layers %{text}): %{y:.4g}<extra></extra>",
        )
    figure.update_xaxes(title="attention sublayers removed", dtick=1)
    figure.update_yaxes(title="perplexity per token (log scale)", type="log")
    write_page(figure, file)
