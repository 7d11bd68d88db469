"""Figures as a page carries them: Plotly's own JSON, without what the page decides for all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gatenorm.report.figures.palette import SERIES
from gatenorm.report.figures.plots import plotly_figure
from gatenorm.report.page.audit_view import Change
from gatenorm.report.page.wording import clean

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down")
# Templates are ours; everything else may hold names that others chose.
_OURS = ("hovertemplate", "texttemplate")
# The page has its own type, colours and headings.
_LEAVE = ("template", "title")


def bare(figure: Any, **layout: Any) -> dict[str, Any]:
    """A figure's data and layout as plain JSON, its title left to the page's heading.

    Plotly reads tags and entities in all texts: whatever names hold of them is written so that it shows as it is.
    """
    made: dict[str, Any] = json.loads(figure.to_json())
    kept = {name: value for name, value in made["layout"].items() if name not in _LEAVE}
    return {"data": _shown(made["data"]), "layout": {**_shown(kept), **layout}}


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: inner if name in _OURS else _shown(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    if isinstance(value, str):
        return clean(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return value


def changes_figure(by_model: Mapping[str, Sequence[Change]], unit: str) -> Any:
    """Changes with their 95% intervals, a row a task, a mark a model: what lies left of zero was lost."""
    figure = plotly_figure("")
    # A variant may lack a task that the others were asked.
    row_of = {name: row for row, name in enumerate(dict.fromkeys(c.name for cs in by_model.values() for c in cs))}
    for n, (model, changes) in enumerate(by_model.items()):
        known = [(c.low, c.high) != (None, None) for c in changes]
        middle = [100 * c.difference for c in changes]
        above = [100 * (c.high - c.difference) if c.high is not None else 0 for c in changes]
        below = [100 * (c.difference - c.low) if c.low is not None else 0 for c in changes]
        bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.2, "width": 3}
        # Beside one another within a row.
        shift = (n - (len(by_model) - 1) / 2) * 0.6 / max(len(by_model), 1)
        figure.add_scatter(
            x=middle,
            y=[row_of[c.name] + shift for c in changes],
            name=model,
            mode="markers",
            marker={"color": SERIES[n % len(SERIES)], "symbol": SYMBOLS[n % len(SYMBOLS)], "size": 9},
            error_x=bars if any(known) else None,
            text=[c.name for c in changes],
            hovertemplate="%{text}: %{x:+.1f} " + unit + "<extra></extra>",
        )
    figure.update_xaxes(title=f"change, {unit}", zeroline=True, zerolinewidth=2)
    rows, names = list(row_of.values()), list(row_of)
    figure.update_yaxes(tickvals=rows, ticktext=names, range=[len(rows) - 0.4, -0.6], zeroline=False)
    return figure
