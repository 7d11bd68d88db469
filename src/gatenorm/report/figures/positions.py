"""Loss by position: what a model still makes of words far back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from gatenorm.report.figures.drawing import Figure, fitted
from gatenorm.report.figures.palette import SERIES
from gatenorm.report.figures.series import SOLID, Point, Series, series_chart


def positions_figure(buckets: Sequence[str], losses: Mapping[str, Sequence[float | None]]) -> Figure:
    """Mean losses in nats by the number of tokens before the predicted one; the first model is the unpruned one."""
    series = [
        Series(
            name=name,
            points=tuple(
                Point(bucket, loss, f"{name}: {loss:.3f} nats after {bucket} tokens")
                for bucket, loss in zip(buckets, values, strict=True)
                if loss is not None
            ),
            style=len(SERIES) - 1 if n == 0 else n - 1,
            dash=(2, 3) if n == 0 else SOLID,
        )
        for n, (name, values) in enumerate(losses.items())
    ]
    axis = alt.Axis(labelAngle=0, labelOverlap=True)
    x = alt.X("x:N", title="tokens before the predicted one", sort=list(buckets), axis=axis)
    y = alt.Y("y:Q", title="loss, nats per token", scale=alt.Scale(zero=False))
    return lambda width: fitted(series_chart(series, x, y, width), width, 300)
