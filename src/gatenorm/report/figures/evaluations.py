"""Figures of evaluations: changes by task, accuracy of retrieval, loss by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt

from gatenorm.errors import OutputError
from gatenorm.records import Evidence
from gatenorm.records.evidence import Retrieval, of_type
from gatenorm.report.figures.drawing import Chart, Figure, beside, fitted, write_figure
from gatenorm.report.figures.grid import Tile, grid_chart
from gatenorm.report.figures.palette import SERIES
from gatenorm.report.figures.series import SOLID, Point, Series, series_chart


def rows_figure(
    series: Sequence[Series], title: str, reference: float, *, apart: bool = True, legend: Sequence[str] | None = None
) -> Figure:
    """A row for each name that is some point's ``y``, its figure and interval along ``x``; a dotted line at a value.

    Args:
        apart: whether points of several series lie one below the other within a row.
        legend: the names shown there; all by default.
    """
    # A variant may lack a task that others were given.
    names = list(dict.fromkeys(str(p.y) for s in series for p in s.points))
    x = alt.X("x:Q", title=title, scale=alt.Scale(zero=False, padding=12), axis=alt.Axis(labelFlush=True))
    axis = alt.Axis(grid=True, tickBand="extent", labelLimit=170)
    y = alt.Y("y:N", title=None, sort=names, scale=alt.Scale(domain=names), axis=axis)
    order = alt.YOffset("series:N", sort=[s.name for s in series]) if apart else None
    height = max(34, 14 * len(series) if apart else 0) * len(names)

    def drawn(width: int) -> Chart:
        return series_chart(
            series, x, y, width, joined=False, sideways=True, reference=reference, legend=legend, offset=order
        )

    return lambda width: fitted(drawn(width), width, height)


_SCALE = alt.Scale(scheme="cividis", domain=[0, 1])  # made to look alike to colour-blind readers


@dataclass(frozen=True)
class RetrievalMap:
    """The share of right choices: a row for each depth, a column for each context length in tokens."""

    name: str
    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    right: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, record: Retrieval) -> RetrievalMap:
        """The map of a record of the task ``retrieval``."""
        shares = {(cell.length, cell.depth): cell.choice for cell in record.cells}
        lengths, depths = tuple(record.protocol.lengths), tuple(record.protocol.depths)
        right = tuple(tuple(shares[n, depth] for n in lengths) for depth in depths)
        return cls(f"{record.model.name}: {record.form}", lengths, depths, right)


def retrieval_figure(retrieval: RetrievalMap) -> Figure:
    """One map."""
    return lambda width: fitted(_chart(retrieval, width), width)


def plot_retrieval(records: Sequence[Evidence], path: Path) -> None:
    """Draw a panel for each retrieval record among ``records`` into a .png, .svg or .html file.

    Raises:
        OutputError: there is no retrieval record, or as ``write_figure``.
    """
    maps = [RetrievalMap.of(record) for record in of_type(records, Retrieval)]
    if not maps:
        problem = "shows only the task retrieval"
        raise OutputError("nothing-to-draw", problem, field="plot", given=path, hint="add retrieval to the tasks")

    def figure(width: int) -> Chart:
        inner = width // len(maps) if width > 600 else width
        return beside([_chart(one, inner).properties(title=one.name) for one in maps], width)

    write_figure(path, figure, "Retrieval: share of right choices of four")


def _chart(retrieval: RetrievalMap, width: int) -> Chart:
    tiles = [
        Tile(
            column=f"{length:,}",
            row=f"{depth:.0%}",
            tip=f"{length:,} tokens, {depth:.0%} deep: {value:.0%} right",
            value=value,
            text=f"{value:.0%}",
            ink="black" if value > 0.48 else "white",
        )
        for depth, values in zip(retrieval.depths, retrieval.right, strict=True)
        for length, value in zip(retrieval.lengths, values, strict=True)
    ]
    scale = alt.Color("value:Q", scale=_SCALE, legend=None)
    return grid_chart(
        tiles, width, x="context, tokens", y="depth of the fact", row_height=34, text_width=34, scale=scale
    )


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
