"""Perplexity by number of removed sublayers: a line for each criterion, and the band of random choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from gatenorm.records.curve import Curve
from gatenorm.report.figures.drawing import Figure, fitted, write_figure
from gatenorm.report.figures.series import Band, Point, Series, count_axis, log_axis, series_chart

_TITLE = "perplexity per token (log scale)"


def curve_figure(series: Sequence[Series], band: Band | None = None, reference: float | None = None) -> Figure:
    """Perplexity over the number of removed sublayers; the dotted line is the ``reference``."""
    values = [float(p.y) for s in series for p in s.points]
    values += [*band.low, *band.high] if band else []
    values += [reference] if reference else []
    x = count_axis([*(float(p.x) for s in series for p in s.points), *(band.x if band else ())])
    y = log_axis(values, _TITLE)
    return lambda width: fitted(series_chart(series, x, y, width, band=band, reference=reference), width, 300)


def plot_curve(curve: Curve, path: Path) -> None:
    """Draw a curve into a .png, .svg or .html file.

    Raises:
        OutputError: as ``write_figure``.
    """
    series = []
    for n, line in enumerate(curve.lines):
        points = tuple(
            Point(count, value, f"{line.name}, {count} removed ({layers_text(line.removed[count])}): {value:.4g}")
            for count, value in sorted(line.perplexity.items())
            if math.isfinite(value)
        )
        series.append(Series(line.name, points, n))
    spread = {n: values for n, values in curve.spread().items() if all(map(math.isfinite, values))}
    band = None
    if spread:
        low, middle, high = zip(*spread.values(), strict=True)
        band = Band("random", tuple(spread), low, middle, high)
    title = f"{curve.model.name}: perplexity on {curve.data['name']}"
    note = f"grey: {len(curve.band)} random choices, least to largest, and their geometric mean" if band else ""
    write_figure(path, curve_figure(series, band), title, note=note)


def layers_text(layers: Sequence[int]) -> str:
    """The layers that a point lacks, for tooltips."""
    return f"layers {', '.join(map(str, sorted(layers)))}" if layers else "none"
