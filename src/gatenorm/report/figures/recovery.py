"""A recovery study: perplexity and task accuracy by budget, pruned and recovered."""

import math
import statistics
from pathlib import Path

import altair as alt

from gatenorm.recovery.study_record import TOLERANCE, Figures, Study
from gatenorm.report.figures.drawing import Chart, beside, write_figure
from gatenorm.report.figures.series import DASHED, SOLID, Band, Point, Series, count_axis, log_axis, series_chart

_TASKS = "tasks"


def plot_study(study: Study, path: Path) -> None:
    """Draw a study into a .png, .svg or .html file: a panel for each text, and one for the tasks."""
    panels = [*study.dense.perplexities, *([_TASKS] if study.tasks else [])]
    title = f"{study.model.name}: before and after recovery"
    note = f"dotted: the dense model; grey: perplexity within {TOLERANCE:.0%} of it"
    write_figure(path, lambda width: beside([_panel(study, name, width) for name in panels], width), title, note=note)


def _panel(study: Study, name: str, width: int) -> Chart:
    series = [
        # Hollow and dashed before, filled and solid after: legible without colour.
        Series(
            name=f"{criterion}, {state}",
            points=_points(study, criterion, name, state),
            style=n,
            dash=SOLID if state == "recovered" else DASHED,
            marks="filled" if state == "recovered" else "hollow",
        )
        for n, criterion in enumerate(study.criteria)
        for state in ("pruned", "recovered")
    ]
    dense = _value(study.dense, name)
    x = count_axis(float(p.x) for s in series for p in s.points)
    if name == _TASKS:
        scale = alt.Scale(domain=[0, 1])  # from 0: small differences between few items should look small
        y = alt.Y("y:Q", title=f"mean accuracy of {len(study.tasks)} tasks", scale=scale)
    else:
        values = [float(p.y) for s in series for p in s.points]
        y = log_axis([*values, dense, dense * (1 + TOLERANCE)], f"perplexity, {name} text (log scale)")
    band = None
    if name == "held-out":
        ends = (0.0, max(float(p.x) for s in series for p in s.points))
        limit = dense * (1 + TOLERANCE)
        band = Band(f"within {TOLERANCE:.0%} of the dense model", ends, (dense, dense), (dense, dense), (limit, limit))
    return series_chart(series, x, y, width, reference=dense, band=band).properties(height=300)


def _points(study: Study, criterion: str, panel: str, state: str) -> tuple[Point, ...]:
    values = [(0, _value(study.dense, panel))]
    for variant in study.of(criterion):
        figures = variant.after if state == "recovered" else variant.before
        values.append((len(variant.removed), _value(figures, panel)))
    return tuple(
        Point(count, value, f"{criterion}, {state}, {count} removed: {value:.4g}")
        for count, value in values
        if math.isfinite(value)
    )


def _value(figures: Figures, panel: str) -> float:
    return statistics.fmean(figures.tasks.values()) if panel == _TASKS else figures.perplexities[panel]
