"""Which layers each variant lacks: a row a variant, a column a layer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gatenorm.report.figures.drawing import Figure, fitted
from gatenorm.report.figures.grid import Tile, grid_chart
from gatenorm.report.figures.palette import MARKED, PAPER


def removed_figure(layers: Sequence[int], removed: Mapping[str, Collection[int]]) -> Figure:
    """A row for each named variant; ``removed`` holds the layers that it lacks."""
    tiles = [
        Tile(
            column=str(layer),
            row=name,
            tip=f"{name}, layer {layer}: {'removed' if layer in gone else 'kept'}",
            colour=MARKED if layer in gone else PAPER,
        )
        for name, gone in removed.items()
        for layer in layers
    ]
    return lambda width: fitted(grid_chart(tiles, width, x="layer"), width)
