"""An audit on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gatenorm.audit.output.formatting import figure
from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.records.audit import CANDIDATE, FAILS, INCONCLUSIVE, PASSES, Audit
from gatenorm.report.page.audit_view import verb

# Follows a figure, by what its gate says of it.
_MARKS = {PASSES: "", FAILS: " !", INCONCLUSIVE: " ?"}


def show(audit: Audit, directory: Path) -> None:
    """The candidates at their gates, what was not examined, and the verdict."""
    console.print_table(_table(audit))
    legend = _legend(audit)
    if legend:
        console.say(f"marks: {', '.join(legend)}")
    console.say_each("warning", (warning.message for warning in audit.warnings))
    gaps = (f"{gap.what} ({gap.why}{f'; {gap.how}' if gap.how else ''})" for gap in audit.not_examined)
    console.say_each("not examined", gaps)
    console.say("")
    for sentence in audit.verdict:
        console.say(sentence)
    report = next((path for name in ("report.html", "audit.json") if (path := directory / name).is_file()), directory)
    console.say(f"report: {report}")


def _table(audit: Audit) -> Any:
    candidates = [v for v in audit.variants if v.role == CANDIDATE]
    gates = list(dict.fromkeys(g.gate for v in candidates for g in v.gates))
    rows = table(
        f"{audit.model.name}: candidates", "variant", f">{verb(audit)}", *(f">{gate}" for gate in gates), "outcome"
    )
    for variant in candidates:
        measured = {g.gate: figure(g) + _MARKS[g.outcome] for g in variant.gates if g.value is not None}
        star = "* " if variant.name == audit.chosen else ""
        removed = f"{len(variant.plan.added.attention)} ({variant.share:.0%})"
        outcome = "rejected" if variant.rejected else variant.outcome
        rows.add_row(star + variant.name, removed, *(measured.get(gate, "-") for gate in gates), outcome)
    return rows


def _legend(audit: Audit) -> list[str]:
    """What the marks in the table mean, of those that occur."""
    results = [g for v in audit.variants if v.role == CANDIDATE for g in v.gates]
    outcomes = {g.outcome for g in results if g.value is not None}
    legend = [f"{mark.strip()} {outcome}" for outcome, mark in _MARKS.items() if mark and outcome in outcomes]
    legend += ["* recommended"] if audit.chosen is not None else []
    return legend + (["- not measured"] if any(g.value is None for g in results) else [])
