"""What most figures are: named series of points, joined or not, with intervals, labels and a line to compare with."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import altair as alt

from gatenorm.report.figures.drawing import Chart
from gatenorm.report.figures.palette import BAND, INK, LINE, MUTED, PAPER, SERIES

SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right")
DASHES = ([1, 0], [7, 3], [7, 3, 2, 3], [2, 3])
SOLID, DASHED = (1, 0), (5, 4)


@dataclass(frozen=True)
class Point:
    """``low`` and ``high`` are the ends of its interval, ``left`` and ``right`` those of one of x beside one of y;
    ``label`` is written beside it, ``tip`` shown on hovering.
    """

    x: float | str
    y: float | str
    tip: str
    low: float | None = None
    high: float | None = None
    label: str = ""
    left: float | None = None
    right: float | None = None


@dataclass(frozen=True)
class Series:
    """Points under one name. ``style`` numbers its colour and shape; ``dash`` is Vega's, alternating where ``None``.

    ``marks`` are "filled", "hollow" or "" for a line without them. ``beneath`` counts later series that run along this
    one: it is drawn solid and so much wider, and shows at their edges.
    """

    name: str
    points: tuple[Point, ...]
    style: int
    dash: Sequence[int] | None = None
    marks: str = "filled"
    beneath: int = 0

    @property
    def colour(self) -> str:
        return SERIES[self.style % len(SERIES)]

    @property
    def shape(self) -> str:
        return SHAPES[(self.style + self.style // len(SERIES)) % len(SHAPES)]


@dataclass(frozen=True)
class Band:
    """A shaded band between ``low`` and ``high`` over ``x``, with its middle line, under a name."""

    name: str
    x: tuple[float, ...]
    low: tuple[float, ...]
    middle: tuple[float, ...]
    high: tuple[float, ...]


def count_axis(counts: Iterable[float], verb: str = "removed") -> Chart:
    """An x axis for whole numbers: those that there are, or of more than a dozen round ones."""
    known = sorted({int(count) for count in counts})
    last = known[-1] if known else 0
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if last / step <= 12 or step == 1000)
    written = known if len(known) <= 13 else list(range(0, last + 1, step))
    axis = alt.Axis(values=written, format="d", labelOverlap=True)
    return alt.X("x:Q", title=f"attention sublayers {verb}", axis=axis)


def log_axis(values: Sequence[float], title: str) -> Chart:
    """A logarithmic y axis with numbers at every tick, however small the range."""
    known = [v for v in values if math.isfinite(v) and v > 0] or [1.0]
    low, high = min(known), max(known)
    low, high = (low / 1.05, high * 1.05) if low == high else (low / (high / low) ** 0.04, high * (high / low) ** 0.04)
    axis = alt.Axis(values=log_ticks(low, high), format="~g")
    return alt.Y("y:Q", title=title, scale=alt.Scale(type="log", domain=[low, high], nice=False), axis=axis)


def log_ticks(low: float, high: float) -> list[float]:
    """From three to twelve round numbers between ``low`` and ``high``."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5)):
        ticks = [d * 10.0**e for e in decades for d in digits if low <= d * 10.0**e <= high]
        if len(ticks) >= 4:
            return ticks[:: len(ticks) // 12 + 1]
    exponent = math.floor(math.log10((high - low) / 4))
    step = max(d * 10.0**exponent for d in (1, 2, 5) if d * 10.0**exponent <= (high - low) / 3)
    return [round(n * step, 12) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def series_chart(
    series: Sequence[Series],
    x: Chart,
    y: Chart,
    width: int,
    *,
    joined: bool = True,
    sideways: bool = False,
    reference: float | None = None,
    band: Band | None = None,
    legend: Sequence[str] | None = None,
    offset: Chart = None,
) -> Chart:
    """Series as lines and marks over ``x`` and ``y``, which are Altair's channels of the fields ``x`` and ``y``.

    Args:
        joined: whether lines join the points, in their order.
        sideways: intervals are of x instead of y.
        reference: a dotted line at this y, or at this x where sideways.
        legend: the names shown there; all by default, and none at all of an empty one.
        offset: Altair's channel that moves series of one category apart.
    """
    names = [s.name for s in series]
    # The names of rows take their part of the width.
    key = _legend([name for name in names if legend is None or name in legend], width * 3 // 5 if sideways else width)

    def style(channel: Chart, values: Sequence[object], legend: Chart = key) -> Chart:
        return channel("series:N", scale=alt.Scale(domain=names, range=list(values)), legend=legend)

    def rows(wanted: Sequence[Series]) -> Chart:
        points = [(s.name, n, asdict(p)) for s in wanted for n, p in enumerate(s.points)]
        chart = alt.Chart(alt.InlineData([{"series": name, "n": n, **point} for name, n, point in points]))
        return chart.encode(offset) if offset else chart

    colour = style(alt.Color, [s.colour for s in series])
    layers = _band(band, x, y) if band else []
    if reference is not None:
        at = {"x": alt.datum(reference)} if sideways else {"y": alt.datum(reference)}
        layers.append(
            alt.Chart(alt.InlineData([{}])).mark_rule(color=LINE, strokeDash=[2, 3], strokeWidth=1.5).encode(**at)
        )
    if joined:
        for n, one in enumerate(series):  # dashes by a scale would also dash the marks in the legend
            dash = SOLID if one.beneath else one.dash or DASHES[n % len(DASHES)]
            line = rows([one]).mark_line(strokeWidth=1.8 + 2.2 * one.beneath, strokeDash=list(dash))
            layers.append(line.encode(x, y, colour, alt.Order("n:Q")))
    spread = [replace(s, points=tuple(p for p in s.points if p.low is not None)) for s in series]
    if any(s.points for s in spread):
        ends = (_of(x, "low:Q"), alt.X2("high:Q"), y) if sideways else (x, _of(y, "low:Q"), alt.Y2("high:Q"))
        layers.append(rows(spread).mark_rule(strokeWidth=1.2).encode(*ends, colour))
    across = [replace(s, points=tuple(p for p in s.points if p.left is not None)) for s in series]
    if any(s.points for s in across):
        ends = (_of(x, "left:Q"), alt.X2("right:Q"), y)
        layers.append(rows(across).mark_rule(strokeWidth=1.2).encode(*ends, colour))
    marks = rows([s for s in series if s.marks]).encode(x, y)
    fills = style(alt.Fill, [PAPER if s.marks == "hollow" else s.colour for s in series])
    shapes = style(alt.Shape, [s.shape for s in series])
    size = [52 * (1 + 1.6 * s.beneath) for s in series]
    sizes = alt.Size("series:N", scale=alt.Scale(type="ordinal", domain=names, range=size), legend=None)
    drawn = marks.mark_point(strokeWidth=1.8, opacity=1)
    layers.append(drawn.encode(colour, fills, shapes, sizes, alt.Description("tip:N")))
    if any(point.label for s in series for point in s.points):
        layers.append(marks.mark_text(dx=6, dy=-8, align="left", fontSize=12, color=INK).encode(alt.Text("label:N")))
    return alt.layer(*layers)


def _legend(names: Sequence[str], width: int) -> Chart:
    if not names:
        return None
    columns = max(1, width // (max(map(len, names)) * 7 + 34))
    return alt.Legend(title=None, orient="top", direction="horizontal", columns=columns, values=list(names))


def _band(band: Band, x: Chart, y: Chart) -> list[Chart]:
    rows = [
        {"x": at, "y": middle, "low": low, "high": high}
        for at, low, middle, high in zip(band.x, band.low, band.middle, band.high, strict=True)
    ]
    base = alt.Chart(alt.InlineData(rows)).encode(x)
    return [
        base.mark_area(color=BAND, clip=True).encode(
            _of(y, "low:Q"), alt.Y2("high:Q"), description=alt.value(band.name)
        ),
        base.mark_line(color=MUTED, strokeWidth=1, clip=True).encode(y),
    ]


def _of(channel: Chart, field: str) -> Chart:
    """The same axis for another field: without its title, layers would show both."""
    other = channel.copy()
    other.shorthand = field
    return other
