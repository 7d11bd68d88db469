"""Quality against speed, a line a criterion, every point named by how many sublayers are gone: the paper's Pareto.

Thin bars reach from the least to the largest speed-up of the rounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatenorm.analysis.curve_lines import Curve, Line
from gatenorm.errors import OutputError
from gatenorm.report.figures.curve import DASHES, MARKERS
from gatenorm.report.figures.palette import SERIES
from gatenorm.report.figures.plots import matplotlib_figure, plotly_figure, write_plot

_PHASES = ("prefill", "decode")


def plot_pareto(curve: Curve, path: Path) -> None:
    """Draw accuracy, or perplexity where no task was measured, against the speed-ups, into a .png, .svg or .html file.

    Raises:
        OutputError: speed was not measured, or as ``write_plot``.
        MissingExtraError: the drawing libraries are not installed.
    """
    if not curve.has("prefill_speedup"):
        raise OutputError(f"--pareto {path}: speed was not measured: give --latency TOKENS")
    write_plot(path, static=lambda file: _static(curve, file), interactive=lambda file: _interactive(curve, file))


def _quality(curve: Curve) -> tuple[str, bool]:
    """What the axis is called, and whether it is accuracy."""
    if curve.has("accuracy"):
        return "mean accuracy on the tasks", True
    return f"perplexity on {curve.data['name']} (log scale)", False


def _values(line: Line, accuracy: bool) -> Mapping[int, float]:
    return line.figures["accuracy"] if accuracy else line.perplexity


def _axis(curve: Curve, phase: str) -> str:
    how = curve.measured["latency"]
    what = f"{how['prompt_tokens']:,} tokens" if phase == "prefill" else f"{how['new']:,} tokens"
    return f"speed-up of {phase} ({what}), times"


def _title(curve: Curve) -> str:
    return f"{curve.model.name}: quality against speed, by number of attention sublayers removed"


def _static(curve: Curve, file: Path) -> None:
    figure = matplotlib_figure(10.0, 4.6)
    from matplotlib.ticker import FuncFormatter

    name, accuracy = _quality(curve)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, phase in zip(panels, _PHASES, strict=True):
        for n, line in enumerate(curve.lines):
            values, speed = _values(line, accuracy), line.figures[f"{phase}_speedup"]
            counts = [c for c in sorted(values) if math.isfinite(values[c])]
            colour = SERIES[n % len(SERIES)]
            low, high = (line.figures[f"{phase}_speedup_{end}"] for end in ("low", "high"))
            for c in counts[1:]:  # the extremes of the rounds
                panel.plot([low[c], high[c]], [values[c]] * 2, color=colour, linewidth=0.8, alpha=0.4)
            panel.plot(
                [speed[c] for c in counts],
                [values[c] for c in counts],
                color=colour,
                marker=MARKERS[(n + n // len(SERIES)) % len(MARKERS)],
                linestyle=DASHES[n % len(DASHES)],
                markersize=4.5,
                linewidth=1.2,
                label=line.name if panel is panels[0] else None,
            )
            for c in counts[1:]:  # all lines begin at the unpruned model
                at = (speed[c], values[c])
                panel.annotate(str(c), at, (4, 4), textcoords="offset points", color=colour, fontsize=7.5)
        panel.set_xlabel(_axis(curve, phase))
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="0.92")
        panel.set_axisbelow(True)
    if not accuracy:
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panels[0].yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[0].set_ylabel(name)
    figure.suptitle(_title(curve), x=0.01, ha="left", fontsize=11)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8.5)
    figure.savefig(file, dpi=150)


def _interactive(curve: Curve, file: Path) -> None:
    figure: Any = plotly_figure(_title(curve))
    name, accuracy = _quality(curve)
    for n, line in enumerate(curve.lines):
        values = _values(line, accuracy)
        for phase in _PHASES:
            figure.add_scatter(
                x=[line.figures[f"{phase}_speedup"][c] for c in sorted(values)],
                y=[values[c] for c in sorted(values)],
                name=f"{line.name}, {phase}",
                mode="lines+markers+text",
                text=[str(c) for c in sorted(values)],
                textposition="top right",
                line={"color": SERIES[n % len(SERIES)], "dash": "solid" if phase == "prefill" else "dot"},
                customdata=[", ".join(map(str, sorted(line.removed[c]))) or "none" for c in sorted(values)],
                hovertemplate="%{text} removed (layers %{customdata}): %{y:.4g} at %{x:.3f} times<extra></extra>",
            )
    figure.update_xaxes(title="speed-up over the unpruned model, times")
    figure.update_yaxes(title=name, type="linear" if accuracy else "log")
    figure.write_html(file, include_plotlyjs=True, full_html=True)
