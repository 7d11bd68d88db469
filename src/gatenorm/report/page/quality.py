"""The report on what was lost: perplexity by speed and by budget, tasks, refusals, the user's own workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gatenorm.records.audit import CANDIDATE, Audit, AuditedVariant
from gatenorm.records.evidence import Comparison, Refusal, kind_of, of_type
from gatenorm.report.figures.changes import changes_figure
from gatenorm.report.figures.curve import curve_figure
from gatenorm.report.figures.pareto import tradeoff_figure
from gatenorm.report.figures.series import Point, Series
from gatenorm.report.page import audit_view as measured
from gatenorm.report.page.audit_view import Change, title
from gatenorm.report.page.blocks import Block, Cell, Chart, Column, Details, Heading, Section, Table, Text
from gatenorm.report.page.wording import NONE, fixed, number, percent, span, times

_SHOWN = 5


def tradeoff(audit: Audit) -> Section:
    """What each variant loses in perplexity beside what it gains in speed, and by how much was removed."""
    measured_ones = [
        v for v in (*measured.candidates(audit), *measured.comparisons(audit)) if measured.perplexities(audit, v)
    ]
    if not measured_ones:
        text = Text("No perplexity was measured of any variant: see what was not examined.")
        return Section("tradeoff", "Quality against speed", (text,))
    blocks: list[Block] = [
        Text(
            "A criterion earns its place by losing less than the comparisons at the same budget: layers drawn at "
            "random, the last layers, and those that a forward pass finds quiet."
        )
    ]
    at = measured.telling_speeds(audit)
    timed = [v for v in measured_ones if measured.told_speed(audit, v)]
    if at and timed:
        blocks.append(_against_speed(audit, timed, at))
    else:
        blocks.append(Text("Nothing was timed, so quality stands against the number of removed sublayers alone."))
    blocks.append(_by_count(audit, measured_ones))
    return Section("tradeoff", "Quality against speed", tuple(blocks))


def behaviour(audit: Audit) -> Section:
    """Tasks, refusals and the user's own workload, as changes against the unpruned model."""
    own = measured.candidates(audit)
    blocks: list[Block] = []
    by_model = {title(v): changes for v in own if (changes := measured.tasks(audit, v))}
    if by_model:
        blocks += [Heading("General tasks"), _changes("tasks", "Accuracy, task by task", by_model)]
    asked = [(v, changes) for v in own if (changes := measured.refusals(audit, v))]
    if asked:
        blocks += [Heading("Refusals"), *_refusals(asked)]
    followed = [v for v in own if measured.domain(v)]
    if followed:
        blocks += [Heading("Your own workload"), *_domain(followed)]
    if not blocks:
        blocks.append(Text("Neither tasks nor refusals nor a workload were looked at: see what was not examined."))
    return Section("behaviour", "Tasks, refusals, workload", tuple(blocks))


def _against_speed(audit: Audit, timed: Sequence[AuditedVariant], at: tuple[str, int, int]) -> Chart:
    engine, tokens, batch = at
    series, rows = [], []
    for n, (criterion, own) in enumerate(_by_criterion(timed).items()):
        comparison = all(v.role != CANDIDATE for v in own)
        points = []
        for variant in own:
            speed, change = measured.told_speed(audit, variant), measured.perplexities(audit, variant)[0]
            if speed is None:
                continue
            prefill, rise = speed.evidence.figures["prefill_speedup"], percent(change.difference, 2, sign=True)
            count = str(len(variant.plan.added.attention))
            tip = f"{title(variant)}: prefill {times(prefill)}, perplexity {rise}"
            points.append(Point(prefill, 100 * change.difference, tip, label=count))
            rows.append(
                [
                    Cell(title(variant)),
                    Cell(criterion),
                    Cell(count),
                    Cell(times(prefill)),
                    Cell(times(speed.of("decode_speedup"))),
                    Cell(rise),
                ]
            )
        name = f"{criterion} (comparison)" if comparison else criterion
        series.append(Series(name, tuple(points), n, marks="hollow" if comparison else "filled"))
    columns = [Column("Variant"), Column("Criterion"), Column("Removed", number=True)]
    columns += [Column("Prefill", "×", True), Column("Decode", "×", True), Column("Perplexity rise", "%", True)]
    where = measured.perplexities(audit, timed[0])[0].name
    return Chart(
        name="tradeoff",
        title="Perplexity rise against prefill speed-up",
        says=(
            f"A mark for each of {len(rows)} variants: to the right is faster, further down is better. Numbers at the "
            f"marks count the removed sublayers; open marks are comparisons. Perplexity on {where}, prefill of "
            f"{tokens:,} tokens in {engine}, batch {batch}."
        ),
        figure=tradeoff_figure(series),
        table=Table.of("Perplexity rise and speed-up by variant", columns, rows),
    )


def _by_count(audit: Audit, own: Sequence[AuditedVariant]) -> Chart:
    series = []
    for n, (criterion, variants) in enumerate(_by_criterion(own).items()):
        points = []
        for variant in sorted(variants, key=lambda v: len(v.plan.added.attention)):
            value, count = measured.perplexities(audit, variant)[0].after, len(variant.plan.added.attention)
            points.append(Point(count, value, f"{title(variant)}: {count} removed, perplexity {number(value)}"))
        name = criterion if any(v.role == CANDIDATE for v in variants) else f"{criterion} (comparison)"
        series.append(Series(name, tuple(points), n))
    first = measured.perplexities(audit, own[0])[0]
    rows = []
    for variant in own:
        for change in measured.perplexities(audit, variant):
            ends = span(change.low, change.high, lambda v: percent(v, 2, sign=True))
            rows.append(
                [
                    Cell(variant.name, tags=measured.tags(variant)),
                    Cell(change.name),
                    Cell(str(len(variant.plan.added.attention))),
                    Cell(number(change.before)),
                    Cell(number(change.after)),
                    Cell(percent(change.difference, 2, sign=True)),
                    Cell(ends or NONE),
                    Cell(f"{change.items:,}"),
                ]
            )
    columns = [Column("Variant"), Column("Text"), Column("Removed", number=True), Column("Before", number=True)]
    columns += [
        Column("After", number=True),
        Column("Rise", "%", True),
        Column("95% interval of the rise", number=True),
    ]
    columns.append(Column("Tokens", number=True))
    return Chart(
        name="perplexity",
        title="Perplexity by number of removed sublayers",
        says=(
            f"A line for each criterion over the number of removed sublayers; the dotted line is the unpruned model, "
            f"{number(first.before)} on {first.name}."
        ),
        figure=curve_figure(series, reference=first.before),
        table=Table.of("Perplexity per token before and after", columns, rows, wide=True),
    )


def _changes(name: str, heading: str, named: dict[str, list[Change]]) -> Chart:
    rows = []
    for model, changes in named.items():
        for c in changes:
            ends = span(c.low, c.high, lambda v: fixed(100 * v, 1, sign=True))
            turned = NONE if c.won is None else f"{c.won} / {c.lost}"
            rows.append(
                [
                    Cell(model),
                    Cell(c.name, note=c.metric),
                    Cell(percent(c.before)),
                    Cell(percent(c.after)),
                    Cell(fixed(100 * c.difference, 1, sign=True)),
                    Cell(ends or NONE),
                    Cell(turned),
                    Cell(percent(c.chance, 0)),
                    Cell(f"{c.items:,}"),
                ]
            )
    columns = [Column("Variant"), Column("Task"), Column("Before", "%", True), Column("After", "%", True)]
    columns += [Column("Change", "points", True), Column("95% interval", "points", True)]
    columns += [
        Column("Turned right / wrong", "items", True),
        Column("Chance", "%", True),
        Column("Items", number=True),
    ]
    return Chart(
        name=name,
        title=heading,
        says=(
            f"Changes in points for {', '.join(named)}, a row a task; bars are 95% intervals of the paired "
            "difference. A mark left of zero is a loss; an interval that holds zero shows no change that is sure."
        ),
        figure=changes_figure(change_series(named), "points"),
        table=Table.of(heading, columns, rows, wide=True),
    )


def change_series(named: Mapping[str, Sequence[Change]]) -> list[Series]:
    """Changes in points, a series for each model."""
    return [
        Series(model, tuple(_change_point(model, c) for c in changes), n)
        for n, (model, changes) in enumerate(named.items())
    ]


def _change_point(model: str, change: Change) -> Point:
    low, high = (None if end is None else 100 * end for end in (change.low, change.high))
    points = fixed(100 * change.difference, 1, sign=True)
    return Point(100 * change.difference, change.name, f"{model}, {change.name}: {points} points", low, high)


def _refusals(asked: Sequence[tuple[AuditedVariant, list[Change]]]) -> list[Block]:
    said = {
        "refused_harmful": "harmful requests refused",
        "answered_harmless": "harmless requests answered",
        "system_obeyed": "conflicts decided by the system instruction",
    }
    rows = []
    for variant, changes in asked:
        for c in changes:
            turned = NONE if c.won is None else f"{(c.won or 0) + (c.lost or 0)} of {c.items}"
            ends = span(c.low, c.high, lambda v: fixed(100 * v, 1, sign=True))
            rows.append(
                [
                    Cell(variant.name, tags=measured.tags(variant)),
                    Cell(said.get(c.name, c.name)),
                    Cell(percent(c.before)),
                    Cell(percent(c.after)),
                    Cell(fixed(100 * c.difference, 1, sign=True), note=ends),
                    Cell(turned),
                ]
            )
    columns = [Column("Variant"), Column("What"), Column("Before", "%", True), Column("After", "%", True)]
    columns += [Column("Change", "points", True), Column("Flipped", "items", True)]
    blocks: list[Block] = [Table.of("Refusals before and after", columns, rows)]
    turned_items = _turned([variant for variant, _ in asked])
    if turned_items:
        blocks.append(Details("Requests whose reply flipped", (turned_items,)))
    return blocks


def _turned(own: Sequence[AuditedVariant]) -> Table | None:
    rows = []
    for variant in own:
        for record in (e for e in of_type(variant.evidence, Comparison) if e.of == kind_of(Refusal)):
            for item in record.items[: 2 * _SHOWN]:
                before, after = item.before, item.after
                rows.append(
                    [
                        Cell(title(variant)),
                        Cell(str(before.get("prompt", item.id))[:200]),
                        Cell(str(before.get("reply", ""))[:160] or "(nothing)", note=_did(before)),
                        Cell(str(after.get("reply", ""))[:160] or "(nothing)", note=_did(after)),
                    ]
                )
    columns = [Column("Variant"), Column("Request"), Column("Before"), Column("After")]
    caption = f"Replies that turned between refusal and answer, at most {2 * _SHOWN} a variant"
    return Table.of(caption, columns, rows, wide=True) if rows else None


def _did(item: dict[str, object]) -> str:
    return "refused" if item.get("refused") else "answered"


def _domain(own: Sequence[AuditedVariant]) -> list[Block]:
    rows, worst = [], []
    for variant in own:
        record = measured.domain(variant)
        assert record is not None
        both = f"{number(record.baseline_perplexity)} → {number(record.perplexity)}" if record.references else NONE
        rows.append(
            [
                Cell(variant.name, note=record.data.name, tags=measured.tags(variant)),
                Cell(str(record.count)),
                Cell(f"{number(record.kl.value)} ± {number(record.kl.stderr, 2)}"),
                Cell(percent(record.top1)),
                Cell(percent(record.greedy_agreement)),
                Cell(percent(record.greedy_same)),
                Cell(both),
            ]
        )
        for item in record.items[:_SHOWN]:
            worst.append(
                [
                    Cell(title(variant)),
                    Cell(str(item.id)),
                    Cell(number(item.kl, 3)),
                    Cell(" ".join(item.baseline_wrote.split())[:120]),
                    Cell(" ".join(item.model_wrote.split())[:120]),
                ]
            )
    columns = [Column("Variant"), Column("Items", number=True), Column("Divergence", "nats", True)]
    columns += [Column("Same top token", "%", True), Column("Same continuation", "% of tokens", True)]
    columns += [Column("Same to the end", "% of items", True), Column("Perplexity of references", number=True)]
    columns_of_worst = [Column("Variant"), Column("Line", number=True), Column("Divergence", "nats", True)]
    columns_of_worst += [Column("Unpruned wrote"), Column("Pruned wrote")]
    return [
        Table.of("How closely the unpruned model is followed", columns, rows, wide=True),
        Details("The items that changed most", (Table.of("Items by divergence", columns_of_worst, worst, wide=True),)),
    ]


def _by_criterion(own: Sequence[AuditedVariant]) -> dict[str, list[AuditedVariant]]:
    found: dict[str, list[AuditedVariant]] = {}
    for variant in own:
        recovered = " (recovered)" if measured.tags(variant) else ""
        found.setdefault(f"{variant.criterion}{recovered}", []).append(variant)
    return found
