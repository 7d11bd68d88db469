"""Plots of records: PNG and SVG through matplotlib, a page of its own through plotly."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gatenorm.errors import MissingExtraError, OutputError
from gatenorm.records import Evidence, Scores

FORMATS = (".png", ".svg", ".html")
# From the palette of Okabe and Ito, which the colour-blind can tell apart; the hatch carries it in print.
_PLAIN, _MARKED = "#0072B2", "#E69F00"
_SERIES = (_PLAIN, "#D55E00", "#009E73", "#CC79A7", "#56B4E9", _MARKED, "#000000")
_MARKERS = "osD^vP*"


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
    draw = _interactive if path.suffix.lower() == ".html" else _static
    _whole(path, lambda temporary: draw(scores, temporary, set(marked)))


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
    compared = [e for e in found if "prefill_speedup" in e.figures]
    if not compared:
        raise OutputError(f"--plot {path}: no speed-up was measured: give --baseline")
    curves: list[Curve] = []
    for label, batch in dict.fromkeys((e.protocol["label"], e.protocol["batch"]) for e in compared):
        of_one = [e for e in compared if (e.protocol["label"], e.protocol["batch"]) == (label, batch)]
        for phase in ("prefill", "decode"):
            name = f"{label}, {phase}" + (f", batch {batch}" if batch > 1 else "")
            group = len({curve.group for curve in curves})
            curves.append(_curve(name, group, of_one, f"{phase}_speedup", spread=True))
            ideal = [e for e in of_one if f"{phase}_ideal" in e.figures]
            if ideal:
                curves.append(_curve(f"{name}, ideal", group, ideal, f"{phase}_ideal", dashed=True))
    title = f"speed-up over {compared[0].protocol['baseline']} ({compared[0].protocol['engine']})"
    _lines(curves, title, "tokens in the prompt", "speed-up", path)


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
    _lines(curves, title, "tokens in the prompt", "seconds", path)


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
    draw = _interactive_lines if path.suffix.lower() == ".html" else _static_lines
    _whole(path, lambda temporary: draw(curves, title, x, y, temporary))


def _static_lines(curves: Sequence[Curve], title: str, x: str, y: str, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("a plot", "matplotlib", "report") from None
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        color = _SERIES[curve.group % len(_SERIES)]
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


def _interactive_lines(curves: Sequence[Curve], title: str, x: str, y: str, path: Path) -> None:
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise MissingExtraError("an HTML plot", "plotly", "report") from None
    figure = go.Figure(layout={"title": title, "template": "plotly_white"})
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
            line={"dash": "dash" if curve.dashed else "solid", "color": _SERIES[curve.group % len(_SERIES)]},
            error_y=bars,
        )
    figure.update_xaxes(title=x, type="log", tickvals=sorted({length for curve in curves for length in curve.x}))
    figure.update_yaxes(title=y)
    figure.write_html(path, include_plotlyjs=True, full_html=True)


def _whole(path: Path, draw: Callable[[Path], None]) -> None:
    """Let ``draw`` write a file that appears whole or not at all."""
    check_format(path)
    temporary = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        draw(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"--plot {path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _title(scores: Scores) -> str:
    return f"{scores.model.name}: {scores.criterion} by layer"


def _static(scores: Scores, path: Path, marked: set[int]) -> None:
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise MissingExtraError("a plot", "matplotlib", "report") from None
    width = min(16.0, max(6.0, 1.5 + 0.28 * len(scores.layers)))
    figure = Figure(figsize=(width, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for layer in scores.layers:
        weak = layer.layer in marked
        axes.bar(
            layer.layer,
            layer.score,
            color=_MARKED if weak else _PLAIN,
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
        axes.legend(handles=[Patch(facecolor=_MARKED, hatch="///", edgecolor="white", label="weak late cluster")])
    figure.savefig(path, dpi=150)


def _interactive(scores: Scores, path: Path, marked: set[int]) -> None:
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise MissingExtraError("an HTML plot", "plotly", "report") from None
    figure = go.Figure(layout={"title": _title(scores), "template": "plotly_white", "bargap": 0.15})
    for name, weak in (("layers", False), ("weak late cluster", True)):
        chosen = [s for s in scores.layers if (s.layer in marked) == weak]
        if chosen:
            figure.add_bar(
                x=[s.layer for s in chosen],
                y=[s.score for s in chosen],
                name=name,
                marker={"color": _MARKED if weak else _PLAIN, "pattern": {"shape": "/" if weak else ""}},
                hovertemplate="layer %{x}: %{y:.5g}<extra></extra>",
            )
    figure.update_xaxes(title="layer (original number)", dtick=1 if len(scores.layers) <= 48 else None)
    figure.update_yaxes(title=f"{scores.criterion} (low: removed first)")
    figure.write_html(path, include_plotlyjs=True, full_html=True)
