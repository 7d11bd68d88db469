"""Changes against the unpruned model with their intervals: a row a task, a mark a model."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from gatenorm.report.figures.drawing import Figure, fitted
from gatenorm.report.figures.series import Series, series_chart


def changes_figure(series: Sequence[Series], unit: str) -> Figure:
    """What lies left of zero was lost; each point's ``y`` is the name of its task."""
    # A variant may lack a task that others were given.
    names = list(dict.fromkeys(str(p.y) for s in series for p in s.points))
    x = alt.X("x:Q", title=f"change, {unit}")
    axis = alt.Axis(grid=True, tickBand="extent", labelLimit=170)
    y = alt.Y("y:N", title=None, sort=names, scale=alt.Scale(domain=names), axis=axis)
    order = alt.YOffset("series:N", sort=[s.name for s in series])
    height = max(34, 14 * len(series)) * len(names)
    return lambda width: fitted(
        series_chart(series, x, y, width, joined=False, sideways=True, reference=0, offset=order), width, height
    )
