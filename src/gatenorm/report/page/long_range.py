"""The report on long range: retrieval by length and depth, and the loss by position."""

from collections.abc import Sequence

from gatenorm.findings import retrieval
from gatenorm.records import Evidence
from gatenorm.records.audit import Audit, AuditedVariant
from gatenorm.records.evidence import Positions, Retrieval, of_type
from gatenorm.report.figures.evaluations import RetrievalMap, positions_figure, retrieval_figure
from gatenorm.report.page import audit_view
from gatenorm.report.page.audit_view import findings, title
from gatenorm.report.page.blocks import Block, Chart, Charts, Column, Section, Table, Text, numeric
from gatenorm.report.page.changes import changes_chart
from gatenorm.report.page.wording import fixed, percent

_BASE = "unpruned"


def section(audit: Audit) -> Section:
    """Retrieval by length and depth, base beside variant, then loss by position."""
    blocks: list[Block] = []
    maps = _maps(audit)
    if maps:
        blocks.append(
            Text(
                "A fact is placed at some depth of a text and asked for at its end; the answer is one of four, so "
                "chance is 25%. Retrieval breaks before averages do."
            )
        )
        blocks.append(Charts(maps))
    own = {title(v): changes for v in audit_view.candidates(audit) if (changes := retrieval(findings(audit, v)))}
    if own:
        blocks.append(changes_chart("retrieval-change", "Retrieval, change by form", own, "form"))
    positions = _positions(audit)
    if positions:
        blocks.append(positions)
    if not blocks:
        blocks.append(Text("No long-range task was evaluated: see what was not examined."))
    return Section("distance", "Long range", tuple(blocks))


def _maps(audit: Audit) -> tuple[Chart, ...]:
    base = of_type(audit.baseline, Retrieval)
    shown: list[tuple[str, Sequence[Evidence]]] = [(_BASE, base)]
    shown += [(title(v), v.evidence) for v in _mapped(audit)]
    charts: list[Chart] = []
    for form in dict.fromkeys(e.form for e in base):
        for name, evidence in shown:
            own = [e for e in of_type(evidence, Retrieval) if e.form == form]
            charts += [_map(len(charts) + n, name, form, record) for n, record in enumerate(own[:1])]
    return tuple(charts)


def _mapped(audit: Audit) -> list[AuditedVariant]:
    """The first candidate (the chosen one, if any), and the one with most edits."""
    own = [v for v in audit_view.candidates(audit) if of_type(v.evidence, Retrieval)]
    most = sorted(own, key=lambda v: -len(v.plan.added.attention))
    return list({v.name: v for v in (*own[:1], *most[:1])}.values())


def _map(n: int, name: str, form: str, record: Retrieval) -> Chart:
    drawn = RetrievalMap.of(record)
    lengths, depths, grid = drawn.lengths, drawn.depths, drawn.right
    items = record.count / (len(lengths) * len(depths))
    columns = [Column("Depth"), *(numeric(f"{length:,}", "tokens") for length in lengths)]
    rows = [[f"{depth:.0%}", *(percent(value, 0) for value in line)] for depth, line in zip(depths, grid, strict=True)]
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
            f"{percent(worst[0], 0)} at {worst[1]:,} tokens, {worst[2]:.0%} deep. {items:.0f} items per cell."
        ),
        figure=retrieval_figure(drawn),
        small=True,
        table=Table.of(f"Right choices of {name}, {form}, by depth and context length", columns, rows),
    )


def _positions(audit: Audit) -> Chart | None:
    base = next(iter(of_type(audit.baseline, Positions)), None)
    if base is None:
        return None
    names = [bucket.name for bucket in base.buckets]
    labels = [_bucket(name) for name in names]
    lines: dict[str, Positions] = {_BASE: base}
    for variant in audit_view.candidates(audit):
        own = next(iter(of_type(variant.evidence, Positions)), None)
        if own is not None:
            lines[title(variant)] = own
    rows = [
        [label, *(fixed(record.numbers().get(name), 3) for record in lines.values())]
        for label, name in zip(labels, names, strict=True)
    ]
    columns = [Column("Tokens before"), *(numeric(model, "nats") for model in lines)]
    return Chart(
        name="positions",
        title="Loss by position",
        says=(
            f"A line for each model: {', '.join(lines)}. While a model makes use of distant context, the loss falls to "
            f"the right; where the line stops falling, it no longer does. On {base.data.name}."
        ),
        figure=positions_figure(labels, {m: [r.numbers().get(name) for name in names] for m, r in lines.items()}),
        table=Table.of("Mean loss by position, nats per token", columns, rows, wide=True),
    )


def _bucket(name: str) -> str:
    first, _, last = name.removeprefix("nll_").partition("-")
    return first if first == last else f"{first}–{last}"
