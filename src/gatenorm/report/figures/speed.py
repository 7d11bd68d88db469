"""Plots of speed: what removing attention saves, and where the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatenorm.errors import MissingExtraError, OutputError
from gatenorm.records import Evidence
from gatenorm.report.figures.palette import SERIES
from gatenorm.report.figures.plots import plotly_figure, write_page, write_plot

# Markers tell lines apart in print.
_MARKERS = "osD^vP*"
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "star")
_LENGTH = "tokens in the prompt"


@dataclass(frozen=True)
class Curve:
    """A line through points: ``low`` and ``high`` are the ends of their bars, empty where they have none.

    Curves of one ``group`` have one colour.
    """

    name: str
    group: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dashed: bool = False


def plot_speed(found: Sequence[Evidence], path: Path) -> None:
    """Draw measured speed-up by prompt length, a line for each variant, phase and batch, with the ideal dashed.

    Args:
        found: what ``bench`` gave, with a baseline.

    Raises:
        OutputError: no speed-up among them, an unknown ending, or the file cannot be written.
        MissingExtraError: the plotting library is not installed.
    """
    curves = speedup_curves(found)
    if not curves:
        raise OutputError(f"--plot {path}: no speed-up was measured: give --baseline")
    compared = [e for e in found if "prefill_speedup" in e.figures]
    title = f"speed-up over {compared[0].protocol['baseline']} ({compared[0].protocol['engine']})"
    _lines(curves, title, _LENGTH, "speed-up", path)


def speedup_curves(found: Sequence[Evidence], phases: Sequence[str] = ("prefill", "decode")) -> list[Curve]:
    """Measured speed-up by prompt length for each variant, phase and batch, and behind each the ideal, if known."""
    compared = [e for e in found if "prefill_speedup" in e.figures]
    curves: list[Curve] = []
    for label, batch in dict.fromkeys((e.protocol["label"], e.protocol["batch"]) for e in compared):
        of_one = [e for e in compared if (e.protocol["label"], e.protocol["batch"]) == (label, batch)]
        for phase in phases:
            name = f"{label}, {phase}" + (f", batch {batch}" if batch > 1 else "")
            group = len({curve.group for curve in curves})
            curves.append(_curve(name, group, of_one, f"{phase}_speedup", spread=True))
            ideal = [e for e in of_one if f"{phase}_ideal" in e.figures]
            if ideal:
                curves.append(_curve(f"{name}, ideal", group, ideal, f"{phase}_ideal", dashed=True))
    return curves


def plot_profile(found: Sequence[Evidence], path: Path) -> None:
    """Draw the time that all attention and all MLP sublayers take in prefill, by prompt length.

    Args:
        found: what ``profile`` gave.

    Raises:
        OutputError: nothing was measured, an unknown ending, or the file cannot be written.
        MissingExtraError: the plotting library is not installed.
    """
    measured = [e for e in found if e.figures]
    if not measured:
        raise OutputError(f"--plot {path}: nothing was measured")
    curves: list[Curve] = []
    for batch in dict.fromkeys(e.protocol["batch"] for e in measured):
        of_one = [e for e in measured if e.protocol["batch"] == batch]
        for part, name in (("attention", "attention"), ("mlp", "MLP"), ("outer", "the rest")):
            label = name + (f", batch {batch}" if batch > 1 else "")
            curves.append(_curve(label, len(curves), of_one, f"prefill_{part}_seconds"))
    title = f"{measured[0].model.name}: where prefill's time goes"
    _lines(curves, title, _LENGTH, "seconds", path)


def _curve(
    name: str, group: int, found: Sequence[Evidence], figure: str, spread: bool = False, dashed: bool = False
) -> Curve:
    ordered = sorted(found, key=lambda e: e.protocol["prompt_tokens"])

    def values(end: str) -> tuple[float, ...]:
        return tuple(e.figures[figure + end] for e in ordered)

    lengths = tuple(float(e.protocol["prompt_tokens"]) for e in ordered)
    ends = (values("_low"), values("_high")) if spread else ((), ())
    return Curve(name, group, lengths, values(""), *ends, dashed=dashed)


def _lines(curves: Sequence[Curve], title: str, x: str, y: str, path: Path) -> None:
    write_plot(
        path,
        static=lambda file: _static_lines(curves, title, x, y, file),
        interactive=lambda file: write_page(lines_figure(curves, title, x, y), file),
    )


def _static_lines(curves: Sequence[Curve], title: str, x: str, y: str, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("a plot", "matplotlib", "report") from None
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        color = SERIES[curve.group % len(SERIES)]
        if curve.dashed:
            axes.plot(curve.x, curve.y, color=color, linestyle="--", linewidth=1, label=curve.name)
            continue
        bars = None
        if curve.low:
            bars = [
                [middle - low for middle, low in zip(curve.y, curve.low, strict=True)],
                [high - middle for middle, high in zip(curve.y, curve.high, strict=True)],
            ]
        marker = _MARKERS[curve.group % len(_MARKERS)]
        axes.errorbar(curve.x, curve.y, yerr=bars, color=color, marker=marker, capsize=3, label=curve.name)
    lengths = sorted({length for curve in curves for length in curve.x})
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [f"{length:,.0f}" for length in lengths])
    axes.set_title(title, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9")
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


def lines_figure(curves: Sequence[Curve], title: str, x: str = _LENGTH, y: str = "speed-up") -> Any:
    """Curves over prompt length as an interactive figure, their spreads as bars.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    figure = plotly_figure(title)
    for curve in curves:
        bars = None
        if curve.low:
            above = [high - middle for middle, high in zip(curve.y, curve.high, strict=True)]
            below = [middle - low for middle, low in zip(curve.y, curve.low, strict=True)]
            bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
        figure.add_scatter(
            x=curve.x,
            y=curve.y,
            name=curve.name,
            mode="lines" if curve.dashed else "lines+markers",
            line={"dash": "dash" if curve.dashed else "solid", "color": SERIES[curve.group % len(SERIES)]},
            marker={"symbol": _SYMBOLS[curve.group % len(_SYMBOLS)], "size": 8},
            error_y=bars,
            legendgroup=str(curve.group),
        )
    lengths = sorted({length for curve in curves for length in curve.x})
    figure.update_xaxes(title=x, type="log", tickvals=lengths, ticktext=[f"{length:,.0f}" for length in lengths])
    figure.update_yaxes(title=y)
    return figure
