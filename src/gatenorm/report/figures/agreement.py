"""The agreement matrix: rank correlations of every two criteria, as numbers on colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gatenorm.analysis.agreement import label
from gatenorm.records.rankings import RankingComparison
from gatenorm.report.figures.drawing import Figure, fitted, write_figure
from gatenorm.report.figures.grid import Tile, grid_chart
from gatenorm.report.figures.palette import NEGATIVE, PAPER, POSITIVE


def agreement_figure(names: Sequence[str], matrix: Sequence[Sequence[float | None]]) -> Figure:
    """Rank correlations, row by column: the stronger the colour, the further from 0; orange is negative."""
    tiles = [
        Tile(
            column=column,
            row=row,
            tip=f"{row}, {column}: {_text(value, 3)}",
            colour=PAPER if value is None else NEGATIVE if value < 0 else POSITIVE,
            opacity=1.0 if value is None else 0.55 * abs(value),  # so that the numbers stay legible on light and dark
            text=_text(value, 2),
        )
        for row, values in zip(names, matrix, strict=True)
        for column, value in zip(names, values, strict=True)
    ]
    return lambda width: fitted(
        grid_chart(tiles, width, x="Spearman's rank correlation", row_height=34, text_width=36),
        min(width, 160 + 90 * len(names)),
    )


def _text(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:+.{places}f}".replace("-", "−")


def plot_agreement(comparison: RankingComparison, path: Path) -> None:
    """Draw Spearman's rank correlation of every two criteria into a .png, .svg or .html file.

    Raises:
        OutputError: as ``write_figure``.
    """
    names = [label(scores) for scores in comparison.scores]
    known = {(a.first, a.second): a.spearman for a in comparison.agreements}
    matrix = [[1.0 if a == b else known.get((a, b), known.get((b, a))) for b in names] for a in names]
    title = f"{comparison.model.name}: rank correlation of {len(comparison.scores[0].layers)} layers"
    write_figure(path, agreement_figure(names, matrix), title)
