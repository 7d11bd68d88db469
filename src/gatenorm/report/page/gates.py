"""The gates of every candidate: each limit, what was measured, and why the limit is what it is."""

from gatenorm.records import to_json
from gatenorm.records.audit import FAILS, Audit, AuditedVariant, GateResult, Search
from gatenorm.report.gate_figures import amount, figure, interval, limit, readable
from gatenorm.report.page import audit_view
from gatenorm.report.page.blocks import Block, Cell, Facts, Heading, Row, Section, Table, Text, numeric
from gatenorm.report.page.wording import NONE, facts, tone


def section(audit: Audit) -> Section:
    """A table of gates for each candidate, and the search for the largest budget, if there was one."""
    blocks: list[Block] = [
        Text(
            "A variant passes if every gate passes, and fails if one fails. A gate passes if its figure and the whole "
            "interval are within the limit, fails if both are beyond it, and is inconclusive if the limit lies inside "
            "the interval or too little was measured for an interval. A loss of right answers is inconclusive where "
            "the unpruned model does no better than chance: such a test cannot show damage. Intervals are 95% ones "
            "over paired items; for speed, of the median over the rounds."
        )
    ]
    for variant in audit_view.candidates(audit):
        caption = f"Gates of {audit_view.title(variant)}: {variant.outcome}"
        if not variant.gates:
            blocks += [Heading(audit_view.title(variant)), Text(f"{variant.outcome}; no gate applied to it.")]
            continue
        table = Table.of_rows(caption, list(map(_gate, variant.gates)), wide=True, name=anchor(audit, variant))
        blocks += [Heading(audit_view.title(variant)), table]
        if variant.rejected:
            blocks.append(Text(f"Rejected before more was measured: {variant.rejected}"))
    if len(blocks) == 1:
        blocks.append(Text("There is no candidate."))
    if audit.search:
        blocks += [Heading("Search for the largest budget that passes"), *_search(audit.search)]
    return Section("gates", "Gates, variant by variant", tuple(blocks))


def _gate(gate: GateResult) -> Row:
    beyond = ""
    if gate.outcome == FAILS and gate.value is not None:
        beyond = f"by {amount(abs(gate.value - gate.limit), gate.unit)}"
    return {
        "Gate": readable(gate.gate),
        "Outcome": Cell(gate.outcome, note=beyond, badge=tone(gate.outcome)),
        numeric("Limit"): limit(gate),
        numeric("Measured"): figure(gate),
        numeric("Interval"): interval(gate) or NONE,
        "On what": gate.detail,
        "Why this limit": gate.reason,
    }


def _search(search: Search) -> list[Block]:
    plain = {k: v for k, v in to_json(search).items() if k != "probes"}
    rows: list[Row] = []
    for probe in search.probes:
        gate = {column: cell for column, cell in _gate(probe.gate).items() if column not in ("Gate", "Why this limit")}
        rows.append({numeric("Removed"): str(probe.removed), **gate})
    return [Facts(facts(plain)), Table.of_rows("Probes", rows)]


def anchor(audit: Audit, variant: AuditedVariant) -> str:
    """The id of the variant's gates in the page."""
    return f"gates-{audit.variants.index(variant)}"
