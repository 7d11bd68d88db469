"""The heat map of per-head values, head by layer."""

from __future__ import annotations

from pathlib import Path

import altair as alt

from gatenorm.analysis.agreement import label
from gatenorm.errors import OutputError
from gatenorm.records import Scores
from gatenorm.report.figures.drawing import fitted, write_figure
from gatenorm.report.figures.grid import Tile, grid_chart


def plot_heads(scores: Scores, path: Path) -> None:
    """Draw a criterion's values head by head (a column a layer, a row a head) into a .png, .svg or .html file.

    Raises:
        OutputError: the criterion has no values per head, or as ``write_figure``.
    """
    if not all(layer.heads for layer in scores.layers):
        raise OutputError(
            "no-head-values",
            "has no values per head",
            field="criterion",
            given=label(scores),
            hint="score by gate-norm-heads",
        )
    heads = max(len(layer.heads) for layer in scores.layers)
    tiles = [
        Tile(
            str(layer.layer),
            str(head),
            f"layer {layer.layer}, head {head}: {layer.heads[head]:.5g}",
            value=layer.heads[head],
        )
        for head in range(heads)
        for layer in scores.layers
    ]
    legend = alt.Legend(title=f"{label(scores)} (no unit)", titleLimit=300, orient="top", gradientLength=200)
    scale = alt.Color("value:Q", scale=alt.Scale(scheme="cividis"), legend=legend)
    height = 22 if heads <= 16 else 12

    write_figure(
        path,
        lambda width: fitted(
            grid_chart(tiles, width, x="layer (original number)", y="query head", row_height=height, scale=scale), width
        ),
        f"{scores.model.name}: {label(scores)} of every head",
        "heads",
    )
