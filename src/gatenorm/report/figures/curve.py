"""Figures of curves: perplexity by number of removed sublayers, and quality against speed."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import altair as alt

from gatenorm.errors import OutputError
from gatenorm.records.curve import Curve, Line, spread
from gatenorm.report.figures.drawing import Chart, Figure, beside, fitted, write_figure
from gatenorm.report.figures.series import Band, Point, Series, count_axis, log_axis, series_chart

_TITLE = "perplexity per token (log scale)"
# The part of a logarithmic axis within which lines hide each other.
_CLOSE = 0.04


def curve_figure(
    series: Sequence[Series], band: Band | None = None, reference: float | None = None, verb: str = "removed"
) -> Figure:
    """Perplexity over the number of sublayers that are removed, or what ``verb`` says; a dotted ``reference`` line.

    A band beside series is cut where it would flatten them.
    """
    values = [float(p.y) for s in series for p in s.points]
    values += [*band.low, *band.high] if band and not values else []
    values += [reference] if reference else []
    x = count_axis([*(float(p.x) for s in series for p in s.points), *(band.x if band else ())], verb)
    y, nested = log_axis(values, _TITLE), _nested(series)
    return lambda width: fitted(series_chart(nested, x, y, width, band=band, reference=reference), width, 300)


def _nested(series: Sequence[Series]) -> list[Series]:
    """The same, those that others would hide drawn wider."""
    values = [float(p.y) for s in series for p in s.points]
    apart = _CLOSE * math.log(max(values) / min(values)) if values and min(values) > 0 else 0.0

    def along(one: Series, other: Series) -> bool:
        known = {p.x: float(p.y) for p in other.points}
        both = [(float(p.y), known[p.x]) for p in one.points if p.x and p.x in known]  # at 0 all are the unpruned model
        return bool(both) and all(abs(math.log(a / b)) <= apart for a, b in both)

    return [replace(s, beneath=sum(along(s, later) for later in series[n + 1 :])) for n, s in enumerate(series)]


def plot_curve(curve: Curve, path: Path) -> None:
    """Draw a curve into a .png, .svg or .html file."""
    plot_lines(curve.lines, curve.band, f"{curve.model.name}: perplexity on {curve.data.name}", path)


def plot_lines(lines: Sequence[Line], drawn: Sequence[Line], title: str, path: Path) -> None:
    """Draw perplexities of rankings, and the band of those ``drawn`` at random, into a .png, .svg or .html file."""
    series = []
    for n, line in enumerate(lines):
        points = tuple(
            Point(count, value, f"{line.name}, {count} removed ({layers_text(line.removed[count])}): {value:.4g}")
            for count, value in sorted(line.perplexity.items())
            if math.isfinite(value)
        )
        series.append(Series(line.name, points, n))
    extents = {n: values for n, values in spread(drawn).items() if all(map(math.isfinite, values))}
    band = None
    if extents:
        low, middle, high = zip(*extents.values(), strict=True)
        band = Band("random", tuple(extents), low, middle, high)
    note = f"grey: {len(drawn)} random choices, smallest to largest, and their geometric mean" if band else ""
    write_figure(path, curve_figure(series, band), title, note=note)


def layers_text(layers: Sequence[int]) -> str:
    """The layers that a point lacks, for tooltips."""
    return f"layers {', '.join(map(str, sorted(layers)))}" if layers else "none"


_PHASES = ("prefill", "decode")


def tradeoff_figure(series: Sequence[Series]) -> Figure:
    """The rise of perplexity in percent over the speed-up of a request, a mark for each variant."""
    x = alt.X("x:Q", title="speed-up of a request (×)", scale=alt.Scale(zero=False, padding=24))
    y = alt.Y("y:Q", title="perplexity rise, %", scale=alt.Scale(zero=False, padding=24))
    return lambda width: fitted(series_chart(series, x, y, width, joined=False), width, 340)


def plot_pareto(curve: Curve, path: Path) -> None:
    """Draw accuracy, or perplexity where no task was measured, against the speed-ups, into a .png, .svg or .html file.

    Raises:
        OutputError: speed was not measured, or as ``write_figure``.
    """
    if curve.speed is None:
        problem = "cannot be drawn: speed was not measured"
        raise OutputError("speed-not-measured", problem, field="pareto", given=path, hint="measure latency too")
    judged = curve.judged
    panels = {phase: [_series(line, n, phase, judged) for n, line in enumerate(curve.lines)] for phase in _PHASES}
    values = [float(p.y) for series in panels.values() for s in series for p in s.points]
    y = log_axis(values, f"perplexity on {curve.data.name} (log scale)")
    if judged:
        y = alt.Y("y:Q", title="mean accuracy on the tasks", scale=alt.Scale(zero=False))
    how = curve.speed.protocol
    tokens = {"prefill": how.prompt_tokens, "decode": how.new_tokens}

    def panel(phase: str, width: int) -> Chart:
        title = f"speed-up of {phase} ({tokens[phase]:,} tokens), times"
        x = alt.X("x:Q", title=title, scale=alt.Scale(zero=False, padding=16))
        return series_chart(panels[phase], x, y, width, sideways=True).properties(height=300)

    title = f"{curve.model.name}: quality against speed, by number of attention sublayers removed"
    write_figure(path, lambda width: beside([panel(phase, width) for phase in _PHASES], width), title, "pareto")


def _series(line: Line, style: int, phase: str, judged: bool) -> Series:
    points = []
    for n, point in sorted(line.at.items()):
        value = point.accuracy if judged else point.perplexity
        speedup = point.speed.phase(phase).speedup if point.speed else None
        if speedup is None or value is None or not math.isfinite(value):
            continue
        times = f"{value:.4g} at {speedup.median:.3f} times"
        points.append(
            Point(
                x=speedup.median,
                y=value,
                tip=f"{line.name}, {n} removed ({layers_text(point.layers)}): {times}",
                low=speedup.low if n else None,
                high=speedup.high if n else None,
                label=str(n) if n else "",  # all lines begin at the unpruned model
            )
        )
    return Series(line.name, tuple(points), style)
