"""Marks of the page's plots stand where their names are."""

from __future__ import annotations

import pytest

pytest.importorskip("plotly")

from gatenorm.report.page.audit_view import Change
from gatenorm.report.page.plotting import changes_figure


def test_a_change_stands_in_the_row_of_its_task_also_where_others_are_missing():
    """A variant that was not asked one task must not move the marks of the next ones."""
    both = [Change("boolq", 0.5, 0.4, -0.1, -0.2, 0.0), Change("rte", 0.5, 0.6, 0.1, 0.0, 0.2)]
    figure = changes_figure({"small": both[1:], "large": both}, "points")
    rows = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    assert set(rows) == {"boolq", "rte"}
    for trace in figure.data:
        for row, name in zip(trace.y, trace.text, strict=True):
            assert abs(row - rows[name]) < 0.5
