"""The report on long range: what is still found far back, and the loss by position."""

from __future__ import annotations

from collections.abc import Sequence

from gatenorm.records import Evidence
from gatenorm.records.audit import Audit, AuditedVariant
from gatenorm.records.evidence import Positions, Retrieval, of_type
from gatenorm.report.figures.changes import changes_figure
from gatenorm.report.figures.positions import positions_figure
from gatenorm.report.figures.retrieval import RetrievalMap, retrieval_figure
from gatenorm.report.page import audit_view as measured
from gatenorm.report.page.audit_view import title
from gatenorm.report.page.blocks import Block, Cell, Chart, Charts, Column, Section, Table, Text
from gatenorm.report.page.quality import change_series
from gatenorm.report.page.wording import NONE, fixed, percent, span

_BASE = "unpruned"


def section(audit: Audit) -> Section:
    """Retrieval by length and depth, base beside variant, then loss by position."""
    blocks: list[Block] = []
    maps = _maps(audit)
    if maps:
        blocks.append(
            Text(
                "A fact stands at some depth of a text and is asked for at its end; the right place is one of four, so "
                "25% is chance. Retrieval breaks before averages do."
            )
        )
        blocks.append(Charts(maps))
    own = {title(v): changes for v in measured.candidates(audit) if (changes := measured.retrieval(audit, v))}
    if own:
        blocks.append(_by_form(own))
    positions = _positions(audit)
    if positions:
        blocks.append(positions)
    if not blocks:
        blocks.append(Text("Nothing was asked over long distances: see what was not examined."))
    return Section("distance", "Long range", tuple(blocks))


def _maps(audit: Audit) -> tuple[Chart, ...]:
    """For every form the unpruned model beside the chosen variant and the one with the most removed."""
    base = of_type(audit.baseline, Retrieval)
    shown: list[tuple[str, Sequence[Evidence]]] = [(_BASE, base)]
    shown += [(title(v), v.evidence) for v in _telling(audit)]
    found: list[Chart] = []
    for form in dict.fromkeys(e.form for e in base):
        for name, evidence in shown:
            own = [e for e in of_type(evidence, Retrieval) if e.form == form]
            found += [_map(len(found) + n, name, form, record) for n, record in enumerate(own[:1])]
    return tuple(found)


def _telling(audit: Audit) -> list[AuditedVariant]:
    own = [v for v in measured.candidates(audit) if of_type(v.evidence, Retrieval)]
    most = sorted(own, key=lambda v: -len(v.plan.added.attention))
    return list({v.name: v for v in (*own[:1], *most[:1])}.values())


def _map(n: int, name: str, form: str, record: Retrieval) -> Chart:
    drawn = RetrievalMap.of(record)
    lengths, depths, grid = drawn.lengths, drawn.depths, drawn.right
    items = record.count / (len(lengths) * len(depths))
    columns = [Column("Depth"), *(Column(f"{length:,}", "tokens", True) for length in lengths)]
    rows = [
        [Cell(f"{depth:.0%}"), *(Cell(percent(value, 0)) for value in line)]
        for depth, line in zip(depths, grid, strict=True)
    ]
    worst = min(
        (value, length, depth)
        for depth, line in zip(depths, grid, strict=True)
        for value, length in zip(line, lengths, strict=True)
    )
    return Chart(
        name=f"retrieval-{n}",
        title=f"{name}, {form}",
        says=(
            f"{percent(record.choice.value)} right in all, chance {percent(record.chance, 0)}; lowest "
            f"{percent(worst[0], 0)} at {worst[1]:,} tokens, {worst[2]:.0%} deep. {items:.0f} items a cell."
        ),
        figure=retrieval_figure(drawn),
        small=True,
        table=Table.of(f"Right choices of {name}, {form}, by depth and context length", columns, rows),
    )


def _by_form(own: dict[str, list[measured.Change]]) -> Chart:
    rows = []
    for model, changes in own.items():
        for c in changes:
            ends = span(c.low, c.high, lambda v: fixed(100 * v, 1, sign=True))
            rows.append(
                [
                    Cell(model),
                    Cell(c.name),
                    Cell(percent(c.before)),
                    Cell(percent(c.after)),
                    Cell(fixed(100 * c.difference, 1, sign=True)),
                    Cell(ends or NONE),
                    Cell(percent(c.chance, 0)),
                    Cell(f"{c.items:,}"),
                ]
            )
    columns = [Column("Variant"), Column("Form"), Column("Before", "%", True), Column("After", "%", True)]
    columns += [Column("Change", "points", True), Column("95% interval", "points", True), Column("Chance", "%", True)]
    columns.append(Column("Items", number=True))
    return Chart(
        name="retrieval-change",
        title="Retrieval, change by form",
        says=f"Changes in points for {', '.join(own)}; left of zero less is found than before. Bars are 95% intervals.",
        figure=changes_figure(change_series(own), "points"),
        table=Table.of("Retrieval before and after, by form", columns, rows, wide=True),
    )


def _positions(audit: Audit) -> Chart | None:
    base = next(iter(of_type(audit.baseline, Positions)), None)
    if base is None:
        return None
    names = [bucket.name for bucket in base.buckets]
    labels = [_bucket(name) for name in names]
    lines: dict[str, Positions] = {_BASE: base}
    for variant in measured.candidates(audit):
        own = next(iter(of_type(variant.evidence, Positions)), None)
        if own is not None:
            lines[title(variant)] = own
    rows = [
        [Cell(label), *(Cell(fixed(record.numbers().get(name), 3)) for record in lines.values())]
        for label, name in zip(labels, names, strict=True)
    ]
    columns = [Column("Tokens before"), *(Column(model, "nats", True) for model in lines)]
    return Chart(
        name="positions",
        title="Loss by position",
        says=(
            f"A line a model: {', '.join(lines)}. Where a model uses what was said long ago, the loss falls to the "
            f"right; a line that stops falling has lost that. On {base.data.name}."
        ),
        figure=positions_figure(labels, {m: [r.numbers().get(name) for name in names] for m, r in lines.items()}),
        table=Table.of("Mean loss by position, nats per token", columns, rows, wide=True),
    )


def _bucket(name: str) -> str:
    first, _, last = name.removeprefix("nll_").partition("-")
    return first if first == last else f"{first}–{last}"
