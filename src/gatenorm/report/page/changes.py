"""Changes against the unpruned model as a chart and a table: tasks, and retrieval by form."""

from collections.abc import Mapping, Sequence

from gatenorm.findings import Change
from gatenorm.report.figures.evaluations import rows_figure
from gatenorm.report.figures.series import Point, Series
from gatenorm.report.page.blocks import Cell, Chart, Row, Table, numeric
from gatenorm.report.page.wording import NONE, fixed, percent, span


def changes_chart(name: str, title: str, changes: Mapping[str, Sequence[Change]], what: str = "task") -> Chart:
    """Changes of each variant with their intervals, a row for each task, or ``what`` else it is."""
    series = [Series(model, tuple(_point(model, c) for c in own), n) for n, (model, own) in enumerate(changes.items())]
    return Chart(
        name=name,
        title=title,
        says=(
            f"Changes in points for {', '.join(changes)}, a row for each {what}; bars are 95% intervals of the paired "
            "difference. A mark left of zero is a loss; an interval that includes zero shows no certain change."
        ),
        figure=rows_figure(series, "change, points", reference=0),
        table=Table.of_rows(title, [_row(model, c, what) for model, own in changes.items() for c in own], wide=True),
    )


def points(share: float) -> str:
    """A difference of shares in percentage points."""
    return fixed(100 * share, 1, sign=True)


def _row(model: str, change: Change, what: str) -> Row:
    return {
        "Variant": model,
        what.capitalize(): Cell(change.name, note=change.metric),
        numeric("Before", "%"): percent(change.before),
        numeric("After", "%"): percent(change.after),
        numeric("Change", "points"): points(change.difference),
        numeric("95% interval", "points"): span(change.low, change.high, points) or NONE,
        numeric("Turned right / wrong", "items"): NONE if change.won is None else f"{change.won} / {change.lost}",
        numeric("Chance", "%"): percent(change.chance, 0),
        numeric("Items"): f"{change.items:,}",
    }


def _point(model: str, change: Change) -> Point:
    low, high = (None if end is None else 100 * end for end in (change.low, change.high))
    tip = f"{model}, {change.name}: {points(change.difference)} points"
    return Point(100 * change.difference, change.name, tip, low, high)
