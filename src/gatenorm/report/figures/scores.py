"""The scores of one criterion, a bar for each layer."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import altair as alt

from gatenorm.records import Scores
from gatenorm.report.figures.drawing import Figure, fitted, write_figure
from gatenorm.report.figures.palette import BARS, INK, MARKED


def scores_figure(scores: Scores, marked: Collection[int] = (), meaning: str = "weak late cluster") -> Figure:
    """A bar for each layer by its original number; ``meaning`` says why the ``marked`` ones stand out."""

    def kind(layer: int) -> str:
        return meaning if layer in marked else "other layers"

    rows = [
        {"layer": s.layer, "score": s.score, "kind": kind(s.layer), "tip": f"layer {s.layer}: {s.score:.5g}"}
        for s in scores.layers
    ]
    kinds = alt.Scale(domain=[meaning, "other layers"], range=[MARKED, BARS])
    key = alt.Legend(title=None, orient="top") if marked else None
    # An outline too, so that marked bars differ without colour.
    outline = alt.Scale(domain=[meaning, "other layers"], range=[INK, BARS])
    bars = (
        alt.Chart(alt.InlineData(rows))
        .mark_bar(strokeWidth=1.5)
        .encode(
            alt.X("layer:O", title="layer (original number)", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            alt.Y("score:Q", title=f"{scores.criterion} (low: removed first)"),
            alt.Color("kind:N", scale=kinds, legend=key),
            alt.Stroke("kind:N", scale=outline, legend=key),
            alt.Description("tip:N"),
        )
    )
    return lambda width: fitted(bars, width, 260)


def plot_scores(scores: Scores, path: Path, marked: Collection[int] = ()) -> None:
    """Draw scores into a .png, .svg or .html file.

    Raises:
        OutputError: as ``write_figure``.
    """
    write_figure(path, scores_figure(scores, marked), f"{scores.model.name}: {scores.criterion} by layer")
