"""The report on quality: perplexity by speed and by budget, tasks, refusals, the user's own workload."""

from collections.abc import Sequence

from gatenorm.findings import Change, divergence, multistep, perplexities, refusals, tasks
from gatenorm.records.audit import CANDIDATE, Audit, AuditedVariant
from gatenorm.records.curve import extent
from gatenorm.records.evidence import REFUSAL_METRICS, Comparison, RefusalItem, Workload, of_type
from gatenorm.report.excerpts import beginning, ending
from gatenorm.report.figures.curve import curve_figure, tradeoff_figure
from gatenorm.report.figures.series import Band, Point, Series
from gatenorm.report.page import audit_view
from gatenorm.report.page.audit_view import findings, title
from gatenorm.report.page.blocks import Block, Cell, Chart, Details, Heading, Row, Section, Table, Text, numeric
from gatenorm.report.page.changes import changes_chart
from gatenorm.report.page.wording import NONE, fixed, number, percent, span, times
from gatenorm.surgery.operation import participles

# The table of replies that changed between refusal and answer, as a place in the page.
TURNED = "turned"
_SHOWN = 5
# The ranking whose comparisons are layers drawn at random, one draw each.
_RANDOM = "random"


def tradeoff(audit: Audit) -> Section:
    """What each variant loses in perplexity beside what it gains in speed, and by how many sublayers were edited."""
    examined = [
        v for v in (*audit_view.candidates(audit), *audit_view.comparisons(audit)) if perplexities(findings(audit, v))
    ]
    if not examined:
        text = Text("No variant's perplexity was measured: see what was not examined.")
        return Section("tradeoff", "Quality against speed", (text,))
    blocks: list[Block] = [
        Text(
            "A criterion is worth using if it loses less than the baselines at the same budget: random layers, the "
            "last layers, and those that a forward pass ranks lowest."
        )
    ]
    at = audit_view.quoted_request(audit)
    timed = [v for v in examined if audit_view.quoted_case(audit, v)]
    if at and timed:
        blocks.append(_against_speed(audit, timed, at))
    else:
        blocks.append(Text(f"Nothing was timed: quality is shown by sublayers {audit_view.verb(audit)} only."))
    blocks.append(_by_count(audit, examined))
    return Section("tradeoff", "Quality against speed", tuple(blocks))


def shows_turned(audit: Audit) -> bool:
    """Whether the page shows replies that changed between refusal and answer."""
    return _turned(audit_view.candidates(audit)) is not None


def behaviour(audit: Audit) -> Section:
    """Tasks, refusals and the user's own workload, as changes against the unpruned model."""
    own = audit_view.candidates(audit)
    blocks: list[Block] = []
    by_model = {title(v): changes for v in own if (changes := tasks(findings(audit, v)))}
    if by_model:
        blocks += [Heading("General tasks"), changes_chart("tasks", "Accuracy, task by task", by_model)]
    stepped = {title(v): changes for v in own if (changes := multistep(findings(audit, v)))}
    if stepped:
        why = "A right continuation among wrong ones with one mistake; averages over single questions hide such losses."
        blocks += [Heading("Several steps"), Text(why)]
        blocks.append(changes_chart("multistep", "Items of several steps, change by kind", stepped, "kind"))
    asked = [(v, changes) for v in own if (changes := refusals(findings(audit, v)))]
    if asked:
        blocks += [Heading("Refusals"), *_refusals(asked)]
    followed = [(v, workload) for v in own if (workload := divergence(findings(audit, v)))]
    if followed:
        blocks += [Heading("Your own workload"), *_domain(followed)]
    if not blocks:
        blocks.append(Text("No tasks, refusals or workload were evaluated: see what was not examined."))
    return Section("behaviour", "Tasks, refusals, workload", tuple(blocks))


def _against_speed(audit: Audit, timed: Sequence[AuditedVariant], at: tuple[str, int, int]) -> Chart:
    (engine, tokens, batch), verb = at, audit_view.verb(audit)
    series: list[Series] = []
    rows: list[Row] = []
    for n, (criterion, own) in enumerate(_by_criterion(timed).items()):
        points = []
        for variant in own:
            case, change = audit_view.quoted_case(audit, variant), perplexities(findings(audit, variant))[0]
            if case is None:
                continue
            speedup, rise = case.request_speedup, percent(change.difference, 2, sign=True)
            count = str(len(variant.plan.added.attention))
            tip = f"{title(variant)}: request {times(speedup)}, perplexity {rise}"
            low, high = (None if end is None else 100 * end for end in (change.low, change.high))
            ends = case.request_speedup_low, case.request_speedup_high
            points.append(Point(speedup, 100 * change.difference, tip, low, high, count, *ends))
            rows.append(
                {
                    "Variant": title(variant),
                    "Criterion": criterion,
                    numeric(verb.capitalize()): count,
                    numeric("Request", "×"): Cell(times(speedup), note=span(*ends, times)),
                    numeric("Prefill", "×"): times(case.prefill_speedup),
                    numeric("Decode", "×"): times(case.decode_speedup),
                    numeric("Perplexity rise", "%"): Cell(
                        rise, note=span(change.low, change.high, lambda v: percent(v, 2, sign=True))
                    ),
                }
            )
        series.append(Series(criterion, tuple(points), n))
    where = perplexities(findings(audit, timed[0]))[0].name
    return Chart(
        name="tradeoff",
        title="Perplexity rise against the speed-up of a request",
        says=(
            f"A mark for each of {len(rows)} variants with its 95% intervals: to the right is faster, further down is "
            f"better. Numbers at the marks count the sublayers {verb}. Perplexity on {where}, requests of {tokens:,} "
            f"tokens in {engine}, batch {batch}."
        ),
        figure=tradeoff_figure(series),
        table=Table.of_rows("Perplexity rise and speed-up by variant", rows),
    )


def _by_count(audit: Audit, own: Sequence[AuditedVariant]) -> Chart:
    series, verb = [], audit_view.verb(audit)
    drawn = [v for v in own if v.role != CANDIDATE and v.criterion.partition("@")[0] == _RANDOM]
    for n, (criterion, variants) in enumerate(_by_criterion([v for v in own if v not in drawn]).items()):
        points = []
        for variant in sorted(variants, key=lambda v: len(v.plan.added.attention)):
            value, count = perplexities(findings(audit, variant))[0].after, len(variant.plan.added.attention)
            done = participles(variant.plan.added)
            points.append(Point(count, value, f"{title(variant)}: {count} {done}, perplexity {number(value)}"))
        name = criterion if any(v.role == CANDIDATE for v in variants) else f"{criterion} (comparison)"
        series.append(Series(name, tuple(points), n))
    first = perplexities(findings(audit, own[0]))[0]
    rows: list[Row] = []
    for variant in own:
        for change in perplexities(findings(audit, variant)):
            ends = span(change.low, change.high, lambda v: percent(v, 2, sign=True))
            rows.append(
                {
                    "Variant": Cell(variant.name, tags=audit_view.tags(variant)),
                    "Text": change.name,
                    numeric(verb.capitalize()): str(len(variant.plan.added.attention)),
                    numeric("Before"): number(change.before),
                    numeric("After"): number(change.after),
                    numeric("Rise", "%"): percent(change.difference, 2, sign=True),
                    numeric("95% interval of the rise"): ends or NONE,
                    numeric("Tokens"): f"{change.items:,}",
                }
            )
    return Chart(
        name="perplexity",
        title=f"Perplexity by number of sublayers {verb}",
        says=(
            f"A line for each criterion over the number of sublayers {verb}; the dotted line is the unpruned model, "
            f"{number(first.before)} on {first.name}."
            + (" The grey band is where random draws lie, cut at the edge, with their geometric mean." if drawn else "")
        ),
        figure=curve_figure(series, _band(audit, drawn), reference=first.before, verb=verb),
        table=Table.of_rows("Perplexity per token before and after", rows, wide=True),
    )


def _band(audit: Audit, drawn: Sequence[AuditedVariant]) -> Band | None:
    """Where the perplexities of random draws lie, by how many sublayers each lacks; the unpruned model at 0."""
    by_count: dict[int, list[float]] = {}
    for variant in drawn:
        change = perplexities(findings(audit, variant))[0]
        by_count.setdefault(len(variant.plan.added.attention), []).append(change.after)
        by_count[0] = [change.before]
    if not by_count:
        return None
    low, middle, high = zip(*(extent(own) for _, own in sorted(by_count.items())), strict=True)
    return Band(_RANDOM, tuple(map(float, sorted(by_count))), low, middle, high)


def _refusals(asked: Sequence[tuple[AuditedVariant, list[Change]]]) -> list[Block]:
    rows: list[Row] = []
    for variant, changes in asked:
        for c in changes:
            turned = NONE if c.won is None else f"{(c.won or 0) + (c.lost or 0)} of {c.items}"
            ends = span(c.low, c.high, lambda v: fixed(100 * v, 1, sign=True))
            rows.append(
                {
                    "Variant": Cell(variant.name, tags=audit_view.tags(variant)),
                    "What": REFUSAL_METRICS.get(c.name, c.name),
                    numeric("Before", "%"): percent(c.before),
                    numeric("After", "%"): percent(c.after),
                    numeric("Change", "points"): Cell(fixed(100 * c.difference, 1, sign=True), note=ends),
                    numeric("Flipped", "items"): turned,
                }
            )
    blocks: list[Block] = [Table.of_rows("Refusals before and after", rows)]
    turned_items = _turned([variant for variant, _ in asked])
    if turned_items:
        blocks.append(Details("Requests whose reply changed between refusal and answer", (turned_items,)))
    return blocks


def _turned(own: Sequence[AuditedVariant]) -> Table | None:
    rows: list[Row] = []
    for variant in own:
        for record in of_type(variant.evidence, Comparison):
            for item in record.items[: 2 * _SHOWN]:
                before, after = item.before, item.after
                if isinstance(before, RefusalItem) and isinstance(after, RefusalItem):
                    rows.append(
                        {
                            "Variant": title(variant),
                            "Request": beginning(before.prompt, 200),
                            "Before": Cell(beginning(before.reply, 160) or "(nothing)", note=_did(before)),
                            "After": Cell(beginning(after.reply, 160) or "(nothing)", note=_did(after)),
                        }
                    )
    caption = f"Replies that changed between refusal and answer, at most {2 * _SHOWN} per variant"
    return Table.of_rows(caption, rows, wide=True, name=TURNED) if rows else None


def _did(item: RefusalItem) -> str:
    return "refused" if item.refused else "answered"


def _domain(own: Sequence[tuple[AuditedVariant, Workload]]) -> list[Block]:
    rows: list[Row] = []
    worst: list[Row] = []
    for variant, record in own:
        ends = span(record.kl.low, record.kl.high, number)
        both = f"{number(record.baseline_perplexity)} → {number(record.perplexity)}" if record.references else NONE
        rows.append(
            {
                "Variant": Cell(variant.name, note=record.data.name, tags=audit_view.tags(variant)),
                numeric("Items"): str(record.count),
                numeric("Divergence", "nats"): Cell(number(record.kl.value), note=f"95%: {ends}" if ends else ""),
                numeric("Same top token", "%"): percent(record.top1),
                numeric("Same continuation", "% of tokens"): percent(record.greedy_agreement),
                numeric("Same to the end", "% of items"): percent(record.greedy_same),
                numeric("Perplexity of references"): both,
            }
        )
        for item in record.items[:_SHOWN]:
            worst.append(
                {
                    "Variant": title(variant),
                    numeric("Line"): str(item.id),
                    numeric("Divergence", "nats"): number(item.kl, 3),
                    "Prompt": ending(item.prompt, 120),
                    "Unpruned wrote": beginning(item.baseline_wrote, 120),
                    "Pruned wrote": beginning(item.model_wrote, 120),
                }
            )
    caption = f"Items by divergence, at most {_SHOWN} of each variant"
    return [
        Table.of_rows("Agreement with the unpruned model", rows, wide=True),
        Details("The items that changed most", (Table.of_rows(caption, worst, wide=True),)),
    ]


def _by_criterion(own: Sequence[AuditedVariant]) -> dict[str, list[AuditedVariant]]:
    groups: dict[str, list[AuditedVariant]] = {}
    for variant in own:
        replaced = f", {participles(variant.plan.added)}" if variant.plan.replaces else ""
        recovered = " (recovered)" if audit_view.tags(variant) else ""
        groups.setdefault(f"{variant.criterion}{replaced}{recovered}", []).append(variant)
    return groups
