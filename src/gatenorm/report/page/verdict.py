"""The report's first screen, and what its verdict rests on: gates, warnings, what was not examined."""

from gatenorm.findings import Change, average, perplexities, pooled, refusals, retrieval, turned
from gatenorm.records import spans
from gatenorm.records.audit import (
    BY_CHANCE,
    CANDIDATE,
    FAILS,
    INCONCLUSIVE,
    PASSES,
    PRUNED,
    QUALITY,
    Audit,
    AuditedVariant,
    GateResult,
)
from gatenorm.records.evidence import NotBeaten, Speed
from gatenorm.report.figures.evaluations import rows_figure
from gatenorm.report.figures.series import Point, Series
from gatenorm.report.gate_figures import figure, interval, limit, readable
from gatenorm.report.page import audit_view, gates
from gatenorm.report.page.blocks import (
    Block,
    Cell,
    Chart,
    Column,
    Heading,
    Points,
    Remark,
    Remarks,
    Row,
    Section,
    Table,
    Text,
    numeric,
)
from gatenorm.report.page.wording import NONE, facts, fixed, number, percent, size, times, tone
from gatenorm.surgery.operation import participles

_LIMITS = (
    "A score from weights alone does not show what flows through a layer. A small gate norm implies a quiet layer only "
    "for one head, small logits and no rotary positions; on trained models the paper's bound is mostly vacuous. A "
    "ranking therefore needs measurements of the model itself to support it.",
    "With rotary positions the gate matrix is only the term at distance 0, and heads can cancel inside it.",
    "Averages hide damage: multi-step and long-range behaviour can break while they hardly move. So may anything "
    "listed under “not examined”.",
    "Intervals hold for these items only. Few items give wide ones, and a change within its interval is not shown to "
    "be zero.",
    "Speed was measured on this machine, in these engines, at these lengths; elsewhere it differs. Where prompts are "
    "short, or latency has other causes, removing attention brings little.",
    "The budgets named conservative (about 10%), practical (20%) and aggressive (40%) follow the paper's models of 32 "
    "and 40 layers; a model with fewer layers has fewer to spare.",
)
_BLANK = Cell(NONE)
# Green, orange-red and blue of the palette.
_STYLES = (2, 1, 0)


def summary(audit: Audit) -> tuple[Block, ...]:
    """The table of the first screen, and the warning about baselines that were not beaten."""
    if not audit.variants:
        return ()
    return (
        variants_table(audit),
        *(Text(f"{w.message}.") for w in audit.warnings if isinstance(w.evidence, NotBeaten)),
    )


def picture(audit: Audit) -> Chart | None:
    """The candidates one below the other at the first gate on quality that all of them have figures for."""
    own = sorted(audit_view.candidates(audit), key=lambda v: len(v.plan.added.attention))
    held = {v.name: [g for g in v.gates if _tells(g)] for v in own}
    shared = [
        g for g in next(iter(held.values()), []) if all(any(o.gate == g.gate for o in h) for h in held.values() if h)
    ]
    if not shared:
        return None
    first = shared[0]
    results = [(v, next(g for g in held[v.name] if g.gate == first.gate)) for v in own if held[v.name]]
    series = []
    for style, outcome in enumerate((PASSES, FAILS, INCONCLUSIVE)):
        points = tuple(
            Point(g.value, audit_view.title(v), f"{audit_view.title(v)}: {figure(g)}", g.low, g.high)
            for v, g in results
            if v.outcome == outcome and g.value is not None
        )
        if points:
            series.append(
                Series(outcome, points, _STYLES[style], marks="filled" if outcome != INCONCLUSIVE else "hollow")
            )
    rows: list[Row] = [
        {
            "Variant": audit_view.title(v),
            f"Attention {audit_view.verb(audit)}": f"{len(v.plan.added.attention)} ({percent(v.share)})",
            numeric(readable(g.gate).capitalize()): figure(g),
            numeric("95% interval"): interval(g) or NONE,
            "Outcome of all gates": v.outcome,
        }
        for v, g in results
    ]
    what = readable(first.gate)
    return Chart(
        name="verdict",
        title=f"{what.capitalize()} of each candidate",
        says=(
            f"A row for each candidate, smallest budget first; bars are 95% intervals, the dotted line is the limit "
            f"({limit(first)}). The mark says what all gates together say of it."
        ),
        figure=rows_figure(series, f"{what}, {first.unit}", first.limit, apart=False),
        table=Table.of_rows(f"{what.capitalize()} of each candidate", rows),
    )


def _tells(gate: GateResult) -> bool:
    return gate.aspect == QUALITY and gate.value is not None and not gate.detail.startswith(BY_CHANCE)


def variants_table(audit: Audit) -> Table:
    """The table of candidates."""
    at = audit_view.quoted_request(audit)
    where = f"; speed in {at[0]}, {at[1]:,} tokens" if at else "; nothing was timed"
    money = "" if _priced(audit) else "; no price was given, so no cost"
    rows = [_row(audit, v) for v in audit_view.candidates(audit)]
    return Table.of_rows(f"The variants against the unpruned model{where}{money}", rows, wide=True)


def rankings_table(audit: Audit) -> Table | None:
    """Perplexity by ranking and number of sublayers: the candidates and the baselines they have to beat."""
    if not audit_view.comparisons(audit):
        return None
    everyone = [*audit_view.candidates(audit), *audit_view.comparisons(audit)]
    pruned = [
        v for v in everyone if v.state == PRUNED and not v.plan.replaces and perplexities(audit_view.findings(audit, v))
    ]
    counts = sorted({len(v.plan.added.attention) for v in pruned})
    rows = []
    for criterion in dict.fromkeys(v.criterion for v in pruned):
        own = {len(v.plan.added.attention): v for v in reversed(pruned) if v.criterion == criterion}
        role = "candidate" if any(v.role == CANDIDATE for v in own.values()) else "for comparison"
        rows.append((Cell(criterion, note=role), *(_removed(audit, own.get(n)) for n in counts)))
    caption = "Perplexity with the layers removed that each ranking would choose"
    return Table.of(caption, ["Ranking", *(numeric(f"{n} removed", "perplexity") for n in counts)], rows)


def _removed(audit: Audit, variant: AuditedVariant | None) -> Cell:
    if variant is None:
        return _BLANK
    cell = _perplexity(audit, variant)
    return Cell(cell.text.rpartition(" → ")[2], note=f"{cell.note}; {spans(variant.plan.added.attention)}")


def _row(audit: Audit, variant: AuditedVariant) -> Row:
    beside, speed = audit_view.findings(audit, variant), audit_view.quoted_speed(audit, variant)
    saved = speed.cache_share_removed if speed else None
    marks = (*audit_view.tags(variant), *(("chosen",) if variant.name == audit.chosen else ()))
    link = f"#{gates.anchor(audit, variant)}" if variant.gates and variant.role == CANDIDATE else ""
    row: Row = {
        "Variant": Cell(variant.name, note=f"{variant.criterion}, {variant.budget}", tags=marks, link=link),
        "Outcome": _outcome(variant),
        Column(f"Attention {audit_view.verb(audit)}", "layers, share"): removed(audit, variant),
        numeric("Perplexity", "before → after"): _perplexity(audit, variant),
        numeric("Tasks", "points"): _points(average(beside)),
        numeric("Retrieval", "points"): _points(pooled(retrieval(beside), "forms")),
        numeric("Refusals flipped", "items, either way"): _flips(refusals(beside)),
        numeric("Prefill", "× (ideal)"): _speed(speed, "prefill"),
        numeric("Decode", "× (ideal)"): _speed(speed, "decode"),
        numeric("Cache saved", "%"): Cell(percent(saved, 0)) if saved is not None else _BLANK,
    }
    return row | ({numeric("Cost", "before → after"): _cost(audit, variant)} if _priced(audit) else {})


def removed(audit: Audit, variant: AuditedVariant) -> Cell:
    """The sublayers that this variant edits, out of those that could be edited, and what happened to them."""
    added = variant.plan.added.attention
    done = participles(variant.plan.added)
    how = "" if done == audit_view.verb(audit) else f", {done}"
    return Cell(spans(added), note=f"{len(added)} of {variant.present}, {percent(variant.share)}{how}")


def _outcome(variant: AuditedVariant) -> Cell:
    if variant.role != CANDIDATE:
        return Cell("comparison", badge="quiet")
    if variant.rejected:
        note = "rejected early"
    else:
        note = ", ".join(g.gate for g in variant.gates if g.outcome == variant.outcome != PASSES)
    return Cell(variant.outcome, note=readable(note), badge=tone(variant.outcome))


def _perplexity(audit: Audit, variant: AuditedVariant) -> Cell:
    rises = perplexities(audit_view.findings(audit, variant))
    if not rises:
        return _BLANK
    first = rises[0]
    rise = percent(first.difference, 1, sign=True)
    return Cell(
        f"{number(first.before)} → {number(first.after)}", note=f"{rise}{' on ' + first.name if len(rises) > 1 else ''}"
    )


def _points(change: Change | None) -> Cell:
    if change is None:
        return _BLANK
    # Where there is little room, the line breaks behind the arrow.
    both = f"{percent(change.before)}\u00a0→ {percent(change.after)}"
    return Cell(fixed(100 * change.difference, 1, sign=True), note=both)


def _flips(changes: list[Change]) -> Cell:
    flips = turned(changes)
    return _BLANK if flips is None else Cell(str(flips[0]), note=f"of {flips[1]}")


def _speed(speed: Speed | None, name: str) -> Cell:
    if speed is None:
        return _BLANK
    phase = speed.phase(name)
    ideal = phase.ideal
    return Cell(
        times(phase.speedup.median if phase.speedup else None),
        note=f"ideal {times(ideal)}" if ideal is not None else "no ideal known",
    )


def _priced(audit: Audit) -> bool:
    return any(v.cost_benefit and v.cost_benefit.price_per_hour for v in audit.variants)


def _cost(audit: Audit, variant: AuditedVariant) -> Cell:
    case = audit_view.quoted_case(audit, variant)
    if case is None or not case.cost_per_million_before or not case.cost_per_million_after:
        return _BLANK
    before, after = case.cost_per_million_before, case.cost_per_million_after
    currency = variant.cost_benefit.currency if variant.cost_benefit else ""
    return Cell(
        f"{number(before, 3)} → {number(after, 3)}",
        note=f"{f'{currency} a million tokens'.strip()}, {percent(after / before - 1, 1, sign=True)}",
    )


def cautions(audit: Audit) -> Section:
    """Warnings, and as prominently what was not examined."""
    warnings = tuple(
        Remark(readable(w.kind), w.message, facts=facts(w.evidence.to_dict(), ("kind",))) for w in audit.warnings
    )
    gaps = tuple(Remark(g.what, g.why, g.how) for g in audit.not_examined)
    return Section(
        "cautions",
        "Warnings, and what was not examined",
        (
            Heading(f"Warnings ({len(warnings)})"),
            Remarks("warning", warnings, "No warning applies."),
            Heading(f"Not examined ({len(gaps)})"),
            Remarks("gap", gaps, "Every step was carried out."),
        ),
    )


def limits(audit: Audit) -> Section:
    """What the method cannot show, whatever is measured."""
    return Section("limits", "Limits of the method", (Points(_LIMITS),))


def counts(audit: Audit) -> tuple[tuple[str, str, str], ...]:
    """The counts of the first screen: a number, what it counts, and a link."""
    own = audit_view.candidates(audit)
    passing = sum(v.outcome == PASSES for v in own)
    return (
        (f"{passing} of {len(own)}", "variants pass", "#gates"),
        (str(len(audit.warnings)), "warning" if len(audit.warnings) == 1 else "warnings", "#cautions"),
        (str(len(audit.not_examined)), "not examined", "#cautions"),
        (size(sum(audit.model.files.values())), f"of weights, {audit.model.layers} layers", "#provenance"),
    )
