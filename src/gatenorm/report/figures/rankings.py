"""Figures of rankings: scores by layer, values by head, the layers that criteria select, and how far they agree."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import altair as alt

from gatenorm.analysis.agreement import BUDGETS, label, removed_from
from gatenorm.errors import OutputError
from gatenorm.records import Scores
from gatenorm.records.rankings import Agreement, RankingComparison
from gatenorm.report.figures.drawing import Chart, Figure, fitted, write_figure
from gatenorm.report.figures.grid import Tile, grid_chart
from gatenorm.report.figures.palette import BARS, INK, MARKED, NEGATIVE, ON_COLOUR, PAPER, POSITIVE, SHADES
from gatenorm.report.figures.series import SOLID, Point, Series, log_axis, series_chart


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
    """Draw scores into a .png, .svg or .html file."""
    write_figure(path, scores_figure(scores, marked), f"{scores.model.name}: {scores.criterion} by layer")


def plot_heads(scores: Scores, path: Path) -> None:
    """Draw a criterion's values head by head (a column a layer, a row a head) into a .png, .svg or .html file.

    Raises:
        OutputError: the criterion has no values per head, or as ``write_figure``.
    """
    if not all(layer.heads for layer in scores.layers):
        hint = "score by gate-norm-heads"
        raise OutputError("no-head-values", "has no values per head", field="criterion", given=label(scores), hint=hint)
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


def selection_figure(rankings: Sequence[Scores]) -> Figure:
    """Which layers every ranking removes at 10, 20, 40 and 50 %; the darker, the sooner."""
    layers = sorted(rankings[0].by_layer)
    tiles = []
    for scores in rankings:
        for layer, n in zip(layers, removed_from(scores, layers), strict=True):
            kept = n == len(BUDGETS)
            fate = f"kept at {BUDGETS[-1]:.0%}" if kept else f"removed from {BUDGETS[n]:.0%}"
            tiles.append(
                Tile(
                    column=str(layer),
                    row=label(scores),
                    tip=f"{label(scores)}, layer {layer}: {fate}",
                    colour=PAPER if kept else SHADES[n],
                    text="" if kept else f"{100 * BUDGETS[n]:.0f}",
                    ink=ON_COLOUR if n < 2 else INK,
                )
            )
    title = "layer (original number); in cells: the smallest budget in % that removes it; empty: kept"
    return lambda width: fitted(grid_chart(tiles, width, x=title if width > 600 else "layer", text_width=18), width)


def plot_selection(rankings: Sequence[Scores], path: Path) -> None:
    """Draw the selection diagram into a .png, .svg or .html file."""
    title = f"{rankings[0].model.name}: which attention sublayers each criterion removes"
    write_figure(path, selection_figure(rankings), title, "selection")


def layers_figure(rankings: Sequence[Scores]) -> Figure:
    """A panel for each ranking: its scores by layer, on a logarithmic axis where all of them are above 0."""

    def panel(n: int, scores: Scores, width: int) -> Chart:
        points = tuple(Point(s.layer, s.score, f"layer {s.layer}: {s.score:.4g}") for s in scores.layers)
        values = [s.score for s in scores.layers]
        title = "layer (original number)" if n == len(rankings) - 1 else None
        x = alt.X("x:Q", title=title, scale=alt.Scale(nice=False), axis=alt.Axis(format="d", tickMinStep=1))
        y = log_axis(values, "log scale") if min(values) > 0 else alt.Y("y:Q", title="linear scale")
        drawn = series_chart([Series(label(scores), points, n, SOLID)], x, y, width, legend=[])
        heading = alt.TitleParams(label(scores), fontSize=12, frame="group", offset=4)
        return drawn.properties(width=width - 80, height=110, title=heading)

    return lambda width: alt.vconcat(*(panel(n, scores, width) for n, scores in enumerate(rankings)))


def plot_layers(rankings: Sequence[Scores], path: Path) -> None:
    """Draw scores by layer, a panel for each ranking, into a .png, .svg or .html file."""
    write_figure(path, layers_figure(rankings), f"{rankings[0].model.name}: criteria by layer")


def removed_figure(layers: Sequence[int], fates: Mapping[str, Mapping[int, str]]) -> Figure:
    """A row for each named variant; ``fates`` say of the layers that it edits what happened to them: ``removed``."""
    tiles = [
        Tile(
            column=str(layer),
            row=name,
            tip=f"{name}, layer {layer}: {fate.get(layer, 'kept')}",
            colour=MARKED if layer in fate else PAPER,
        )
        for name, fate in fates.items()
        for layer in layers
    ]
    return lambda width: fitted(grid_chart(tiles, width, x="layer"), width)


def agreement_figure(names: Sequence[str], agreements: Sequence[Agreement]) -> Figure:
    """Rank correlations, row by column: the stronger the colour, the further from 0; orange is negative."""
    known = {(a.first, a.second): a.spearman for a in agreements}
    matrix = [[1.0 if a == b else known.get((a, b), known.get((b, a))) for b in names] for a in names]
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
    """Draw Spearman's rank correlation of every two criteria into a .png, .svg or .html file."""
    names = [label(scores) for scores in comparison.scores]
    title = f"{comparison.model.name}: rank correlation of {len(comparison.scores[0].layers)} layers"
    write_figure(path, agreement_figure(names, comparison.agreements), title)
