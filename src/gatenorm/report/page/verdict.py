"""The report's first screen, and what its verdict rests on: gates, warnings, what was not examined."""

from __future__ import annotations

from gatenorm.records import spans
from gatenorm.records.audit import CANDIDATE, FALLS, NOT_PROVEN, PRUNED, STANDS, Audit, AuditedVariant, GateResult
from gatenorm.report.page import audit_view as measured
from gatenorm.report.page import speed as timing
from gatenorm.report.page.audit_view import Change
from gatenorm.report.page.blocks import (
    Block,
    Cell,
    Column,
    Facts,
    Group,
    Heading,
    Points,
    Remark,
    Remarks,
    Section,
    Table,
    Text,
)
from gatenorm.report.page.wording import NONE, facts, fixed, lost, number, percent, size, span, times, tone, words

_LIMITS = (
    "A score from weights alone says nothing of what flows through a layer. That a small gate norm means a quiet layer "
    "holds for one head, for small logits and without rotary positions; on trained models the paper's bound is mostly "
    "vacuous, so a ranking has to be borne out by measurements of the model itself.",
    "With rotary positions the gate matrix is only the term at distance 0, and heads can cancel inside it.",
    "Averages hide damage: multi-step and long-range behaviour can break while they hardly move. What stands under "
    "“not examined” may have broken too.",
    "Intervals speak of these items alone. Few items give wide ones, and a change that lies within its interval is not "
    "shown to be none.",
    "Speed was measured on this machine, in these engines, at these lengths; on others it is another. Where prompts "
    "are short, or latency lies elsewhere, removing attention brings little.",
    "Budgets named conservative (about 10%), practical (20%) and aggressive (40%) follow the paper's models of 32 and "
    "40 layers; a model with fewer layers has fewer to spare.",
)
_BLANK = Cell(NONE)
# The unit of gates whose figure is what was lost, while elsewhere a change for the better is a plus.
_LOST = "points"
# Of the audit's warnings, the one about what a ranking has to beat.
_UNBEATEN = "comparison-not-beaten"


def summary(audit: Audit) -> tuple[Block, ...]:
    """The tables of the first screen, and which ranking was not beaten."""
    if not audit.variants:
        return ()
    rankings = rankings_table(audit)
    if rankings is None:
        return (variants_table(audit),)
    return (variants_table(audit), rankings, *(Text(f"{w.message}.") for w in audit.warnings if w.kind == _UNBEATEN))


def variants_table(audit: Audit) -> Table:
    """The table of candidates."""
    at = measured.telling_speeds(audit)
    priced = _priced(audit)
    where = f"; speed in {at[0]}, {at[1]:,} tokens" if at else "; nothing was timed"
    money = "" if priced else "; no price was given, so no cost"
    groups = [Group(tuple(_row(audit, v) for v in measured.candidates(audit)))]
    columns = (
        Column("Variant"),
        Column("Outcome"),
        Column("Attention removed", "layers, share"),
        Column("Perplexity", "before → after", True),
        Column("Tasks", "points", True),
        Column("Retrieval", "points", True),
        Column("Refusals flipped", "items, either way", True),
        Column("Prefill", "× (ideal)", True),
        Column("Decode", "× (ideal)", True),
        Column("Cache saved", "%", True),
        *([Column("Cost", "before → after", True)] if priced else []),
    )
    return Table(f"The variants against the unpruned model{where}{money}", columns, tuple(groups), wide=True)


def rankings_table(audit: Audit) -> Table | None:
    """Perplexity by ranking and number of sublayers removed, candidates beside what they have to beat."""
    if not measured.comparisons(audit):
        return None
    everyone = [*measured.candidates(audit), *measured.comparisons(audit)]
    pruned = [v for v in everyone if v.state == PRUNED and measured.perplexities(audit, v)]
    counts = sorted({len(v.plan.added.attention) for v in pruned})
    rows = []
    for criterion in dict.fromkeys(v.criterion for v in pruned):
        own = {len(v.plan.added.attention): v for v in reversed(pruned) if v.criterion == criterion}
        role = "candidate" if any(v.role == CANDIDATE for v in own.values()) else "for comparison"
        rows.append((Cell(criterion, note=role), *(_removed(audit, own.get(n)) for n in counts)))
    columns = (Column("Ranking"), *(Column(f"{n} removed", "perplexity", True) for n in counts))
    return Table(
        "What a ranking has to beat: perplexity without the layers that each would remove",
        columns,
        (Group(tuple(rows)),),
    )


def _removed(audit: Audit, variant: AuditedVariant | None) -> Cell:
    if variant is None:
        return _BLANK
    cell = _perplexity(audit, variant)
    return Cell(cell.text.rpartition(" → ")[2], note=f"{cell.note}; {spans(variant.plan.added.attention)}")


def _row(audit: Audit, variant: AuditedVariant) -> tuple[Cell, ...]:
    drop = variant.plan.added.attention
    speed = measured.told_speed(audit, variant)
    saved = speed.of("cache_share_removed") if speed else None
    marks = (*measured.tags(variant), *(("chosen",) if variant.name == audit.chosen else ()))
    return (
        Cell(
            variant.name,
            note=f"{variant.criterion}, {variant.budget}",
            tags=marks,
            link=f"#{anchor(audit, variant)}" if variant.gates and variant.role == CANDIDATE else "",
        ),
        _outcome(variant),
        Cell(spans(drop), note=f"{len(drop)} of {audit.model.layers}, {percent(variant.share)}"),
        _perplexity(audit, variant),
        _points(measured.average(audit, variant)),
        _points(measured.mean(measured.retrieval(audit, variant), "forms")),
        _flips(measured.refusals(audit, variant)),
        _speed(speed, "prefill"),
        _speed(speed, "decode"),
        Cell(percent(saved, 0)) if saved is not None else _BLANK,
        *([_cost(audit, variant)] if _priced(audit) else []),
    )


def anchor(audit: Audit, variant: AuditedVariant) -> str:
    """Where the variant's gates stand in the page."""
    return f"gates-{audit.variants.index(variant)}"


def _outcome(variant: AuditedVariant) -> Cell:
    if variant.role != CANDIDATE:
        return Cell("comparison", badge="quiet")
    note = (
        "rejected early" if variant.rejected else ", ".join(words(g.gate) for g in variant.gates if g.outcome == FALLS)
    )
    if not note and variant.outcome == NOT_PROVEN:
        note = ", ".join(words(g.gate) for g in variant.gates if g.outcome == NOT_PROVEN)
    return Cell(variant.outcome, note=_readable(note), badge=tone(variant.outcome))


def _perplexity(audit: Audit, variant: AuditedVariant) -> Cell:
    found = measured.perplexities(audit, variant)
    if not found:
        return _BLANK
    first = found[0]
    rise = percent(first.difference, 1, sign=True)
    return Cell(
        f"{number(first.before)} → {number(first.after)}", note=f"{rise}{' on ' + first.name if len(found) > 1 else ''}"
    )


def _points(change: Change | None) -> Cell:
    if change is None:
        return _BLANK
    # Where there is little room, the line breaks behind the arrow.
    both = f"{percent(change.before)}\u00a0→ {percent(change.after)}"
    return Cell(fixed(100 * change.difference, 1, sign=True), note=both)


def _flips(changes: list[Change]) -> Cell:
    found = measured.flips(changes)
    return _BLANK if found is None else Cell(str(found[0]), note=f"of {found[1]}")


def _speed(speed: measured.Speed | None, phase: str) -> Cell:
    if speed is None:
        return _BLANK
    ideal = speed.of(f"{phase}_ideal")
    return Cell(
        times(speed.of(f"{phase}_speedup")), note=f"ideal {times(ideal)}" if ideal is not None else "no ideal known"
    )


def _priced(audit: Audit) -> bool:
    return any(v.worth.get("price_per_hour") for v in audit.variants)


def _cost(audit: Audit, variant: AuditedVariant) -> Cell:
    """The cost of a million tokens where the speeds are quoted; without a price there is none."""
    at = measured.telling_speeds(audit)
    for case in timing.cases(variant):
        before, after = case.get("cost_per_million_before"), case.get("cost_per_million_after")
        if at == (case.get("engine"), case.get("prompt_tokens"), case.get("batch")) and before and after:
            currency = f"{variant.worth.get('currency', '')} a million tokens".strip()
            return Cell(
                f"{number(before, 3)} → {number(after, 3)}",
                note=f"{currency}, {percent(after / before - 1, 1, sign=True)}",
            )
    return _BLANK


def gates(audit: Audit) -> Section:
    """For every candidate each limit, what was measured, and why the limit is what it is."""
    blocks: list[Block] = [
        Text(
            "A variant stands where every gate stands, and falls where one falls. A gate stands when its figure and "
            "the whole interval are within the limit, falls when both are beyond it, and proves nothing when the limit "
            "lies inside the interval or too little was measured for one. A loss of right answers proves nothing where "
            "the unpruned model does not do better than chance: there is nothing to lose. Intervals are of 95%, over "
            "paired items; of speed, that of the median over the rounds."
        )
    ]
    for variant in measured.candidates(audit):
        caption = f"Gates of {measured.title(variant)}: {variant.outcome}"
        if not variant.gates:
            blocks += [Heading(measured.title(variant)), Text(f"{variant.outcome}; no gate was held against it.")]
            continue
        rows = [_gate(gate) for gate in variant.gates]
        columns = [Column("Gate"), Column("Outcome"), Column("Limit", number=True), Column("Measured", number=True)]
        columns += [Column("Interval", number=True), Column("On what"), Column("Why this limit")]
        blocks += [
            Heading(measured.title(variant)),
            Table.of(caption, columns, rows, wide=True, name=anchor(audit, variant)),
        ]
        if variant.rejected:
            blocks.append(Text(f"Rejected before more was measured: {variant.rejected}"))
    if len(blocks) == 1:
        blocks.append(Text("No candidate was made."))
    if audit.search:
        blocks += [Heading("Search for the largest budget that stands"), *_search(audit)]
    return Section("gates", "Gates, variant by variant", tuple(blocks))


def _gate(gate: GateResult) -> list[Cell]:
    unit = "×" if gate.unit == "x" else gate.unit

    def write(value: float | None) -> str:
        if value is None:
            return NONE
        text = fixed(value, 2) if gate.unit in ("x", "nats") else number(value, 3)
        return f"{text}{unit}" if unit in ("%", "×") else f"{text} {unit.removesuffix('s') if text == '1' else unit}"

    def found(value: float | None) -> str:
        return write(value) if value is None or unit != _LOST else lost(value, write)

    beyond = ""
    if gate.outcome == FALLS and gate.value is not None:
        beyond = f"by {write(abs(gate.value - gate.limit))}"
    return [
        Cell(_readable(words(gate.gate))),
        Cell(gate.outcome, note=beyond, badge=tone(gate.outcome)),
        Cell(write(gate.limit)),
        Cell(found(gate.value)),
        Cell(span(gate.low, gate.high, found) or NONE),
        Cell(gate.detail),
        Cell(gate.reason),
    ]


def _search(audit: Audit) -> list[Block]:
    """The bisection as it is recorded: lists of steps as a table, all else as facts."""
    search = dict(audit.search or {})
    blocks: list[Block] = []
    for name, value in search.items():
        if isinstance(value, (list, tuple)) and value and all(isinstance(v, dict) for v in value):
            titles = list(dict.fromkeys(key for row in value for key in row))
            rows = [[Cell(dict(facts({"": row.get(key)})).get("", NONE)) for key in titles] for row in value]
            blocks.append(Table.of(words(str(name)), [Column(words(t)) for t in titles], rows))
    plain = {k: v for k, v in search.items() if not (isinstance(v, (list, tuple)) and v and isinstance(v[0], dict))}
    return [*([Facts(facts(plain))] if plain else []), *blocks]


def cautions(audit: Audit) -> Section:
    """Warnings, and beside them, as large, what was not examined."""
    warnings = tuple(
        Remark(_readable(words(w.kind).replace("-", " ")), w.message, facts=facts(w.evidence)) for w in audit.warnings
    )
    gaps = tuple(Remark(g.what, g.why, g.how) for g in audit.not_examined)
    return Section(
        "cautions",
        "Warnings, and what was not examined",
        (
            Heading(f"Warnings ({len(warnings)})"),
            Remarks("warning", warnings, "Nothing was seen that makes the choice doubtful."),
            Heading(f"Not examined ({len(gaps)})"),
            Remarks("gap", gaps, "Every step of the workflow was carried out."),
        ),
    )


def limits(audit: Audit) -> Section:
    """What the method cannot show, whatever was measured."""
    return Section("limits", "Limits of the method", (Points(_LIMITS),))


def counts(audit: Audit) -> tuple[tuple[str, str, str], ...]:
    """What the first screen counts: a number, what it counts, where to read on."""
    own = measured.candidates(audit)
    standing = sum(v.outcome == STANDS for v in own)
    return (
        (f"{standing} of {len(own)}", "variants stand", "#gates"),
        (str(len(audit.warnings)), "warning" if len(audit.warnings) == 1 else "warnings", "#cautions"),
        (str(len(audit.not_examined)), "not examined", "#cautions"),
        (size(sum(audit.model.files.values())), f"of weights, {audit.model.layers} layers", "#provenance"),
    )


def _readable(text: str) -> str:
    return text.replace("-", " ")
