"""Figures made of cells: a row and a column for each pair of names, with a colour and perhaps a number."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import altair as alt

from gatenorm.report.figures.drawing import Chart
from gatenorm.report.figures.palette import GRID, INK


@dataclass(frozen=True)
class Tile:
    """A cell in a ``colour``, as opaque as ``opacity``, or coloured by its ``value`` where a scale is given."""

    column: str
    row: str
    tip: str
    colour: str = ""
    value: float | None = None
    opacity: float = 1.0
    text: str = ""
    ink: str = INK


def grid_chart(
    tiles: Sequence[Tile],
    width: int,
    *,
    x: str,
    y: str = "",
    row_height: int = 26,
    text_width: int = 24,
    scale: Chart = None,
) -> Chart:
    """Tiles by column and row, both in the order in which they first come.

    Args:
        x, y: what columns and rows are.
        text_width: texts are left out where a column is narrower.
        scale: Altair's channel that colours tiles by ``value``.
    """
    columns, rows = (list(dict.fromkeys(names)) for names in ([t.column for t in tiles], [t.row for t in tiles]))
    longest = max(map(len, columns))
    angle = -40 if longest * 7 * len(columns) > width * 0.8 and longest > 4 else 0
    axis = alt.Axis(labelAngle=angle, labelLimit=210, labelOverlap=not angle, ticks=False, domain=False)
    down = alt.Axis(labelLimit=width * 2 // 5, labelOverlap=row_height < 14, ticks=False, domain=False)
    base = alt.Chart(alt.InlineData([asdict(tile) for tile in tiles])).encode(
        alt.X("column:N", sort=columns, title=x or None, axis=axis),
        alt.Y("row:N", sort=rows, title=y or None, axis=down),
    )
    cells = base.mark_rect(stroke=GRID, strokeWidth=1).encode(
        scale or alt.Color("colour:N", scale=None),
        alt.FillOpacity("opacity:Q", scale=None, legend=None),
        alt.Description("tip:N"),
    )
    layers = [cells]
    room = (width - min(width * 2 // 5, 7 * max(map(len, rows)) + 30)) / len(columns)
    if any(tile.text for tile in tiles) and room >= text_width:
        layers.append(base.mark_text(fontSize=12).encode(alt.Text("text:N"), alt.Color("ink:N", scale=None)))
    return alt.layer(*layers).resolve_scale(color="independent").properties(height=row_height * len(rows))
