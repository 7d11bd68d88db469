"""Speed by prompt length: the speed-up beside the ideal one, and where the time goes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import altair as alt

from gatenorm.errors import OutputError
from gatenorm.records.evidence import Profile, Speed, Spread
from gatenorm.report.figures.drawing import Figure, fitted, write_figure
from gatenorm.report.figures.series import DASHED, SOLID, Point, Series, series_chart


def by_length_figure(series: Sequence[Series], title: str, reference: float | None = None) -> Figure:
    """Series over prompt length in tokens; dashed ones are not in the legend."""
    lengths = sorted({float(p.x) for s in series for p in s.points})
    x = alt.X(
        "x:Q",
        title="tokens in the prompt",
        scale=alt.Scale(type="log", base=2, nice=False, domain=[lengths[0] / 1.1, lengths[-1] * 1.1]),
        axis=alt.Axis(values=lengths, format=",", labelOverlap=True),
    )
    y = alt.Y("y:Q", title=title, scale=alt.Scale(zero=False))
    named = [s.name for s in series if s.dash != DASHED]
    apart = [_shifted(s, 1.01 ** (s.style - (len(named) - 1) / 2)) for s in series]
    return lambda width: fitted(series_chart(apart, x, y, width, reference=reference, legend=named), width, 280)


def _shifted(series: Series, factor: float) -> Series:
    """The intervals of several series at one length would hide each other."""
    return replace(series, points=tuple(replace(p, x=float(p.x) * factor) if p.low else p for p in series.points))


def speedup_series(records: Sequence[Speed]) -> list[Series]:
    """Measured speed-ups by prompt length for each variant, batch and phase, each followed by its ideal, if known."""
    compared = [e for e in records if e.compared]
    series: list[Series] = []
    for label, batch in dict.fromkeys((e.protocol.label, e.protocol.batch) for e in compared):
        own = [e for e in compared if (e.protocol.label, e.protocol.batch) == (label, batch)]
        for phase in ("prefill", "decode"):
            name = f"{label}, {phase}" + (f", batch {batch}" if batch > 1 else "")
            style = sum(s.dash != DASHED for s in series)
            series.append(_series(name, style, [(e.protocol.prompt_tokens, e.phase(phase).speedup) for e in own]))
            ideal = [(e.protocol.prompt_tokens, e.phase(phase).ideal) for e in own if e.phase(phase).ideal]
            if ideal:
                series.append(_series(f"{name}, ideal", style, ideal, dashed=True))
    return series


def plot_speed(records: Sequence[Speed], path: Path) -> None:
    """Draw what ``bench`` measured against a baseline into a .png, .svg or .html file.

    Raises:
        OutputError: no speed-up among the records, or as ``write_figure``.
    """
    series = speedup_series(records)
    if not series:
        raise _nothing(path, "no speed-up was measured", "compare with a baseline")
    compared = next(e for e in records if e.compared)
    title = f"speed-up over {compared.protocol.baseline} ({compared.protocol.engine})"
    known = any(s.dash == DASHED for s in series)
    figure = by_length_figure(series, "speed-up, × (dashed: ideal)" if known else "speed-up, ×", reference=1)
    write_figure(path, figure, title)


def plot_profile(records: Sequence[Profile], path: Path) -> None:
    """Draw the time that all attention and all MLP sublayers take in prefill into a .png, .svg or .html file.

    Raises:
        OutputError: nothing was measured, or as ``write_figure``.
    """
    measured = [(e.protocol, e.prefill) for e in records if e.prefill is not None]
    if not measured:
        raise _nothing(path, "nothing was measured", "")
    series: list[Series] = []
    for batch in dict.fromkeys(protocol.batch for protocol, _ in measured):
        own = [(protocol.prompt_tokens, phase) for protocol, phase in measured if protocol.batch == batch]
        for part, name in (("attention", "attention"), ("mlp", "MLP"), ("outer", "the rest")):
            label = name + (f", batch {batch}" if batch > 1 else "")
            points = [(tokens, getattr(phase, f"{part}_seconds")) for tokens, phase in own]
            series.append(_series(label, len(series), points))
    write_figure(path, by_length_figure(series, "seconds"), f"{records[0].model.name}: where prefill's time goes")


def _series(name: str, style: int, figures: Sequence[tuple[int, Any]], dashed: bool = False) -> Series:
    points = []
    for tokens, figure in sorted(figures, key=lambda pair: pair[0]):
        spread = figure if isinstance(figure, Spread) else None
        value = figure.median if isinstance(figure, Spread) else figure
        low, high = (None, None) if spread is None else (spread.low, spread.high)
        points.append(Point(tokens, value, f"{name}, {tokens:,} tokens: {value:.3g}", low, high))
    return Series(name, tuple(points), style, DASHED if dashed else SOLID, marks="" if dashed else "filled")


def _nothing(path: Path, why: str, hint: str) -> OutputError:
    return OutputError("nothing-to-draw", f"cannot be drawn: {why}", field="plot", given=str(path), hint=hint)
