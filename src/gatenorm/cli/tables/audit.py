"""An audit on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.records.audit import FAILS, INCONCLUSIVE, PASSES

# Follows a figure, by what its gate says of it.
_MARKS = {PASSES: "", FAILS: " !", INCONCLUSIVE: " ?"}


def show(audit: Any, directory: Path) -> None:
    """The candidates at their gates, what was not examined, and the verdict."""
    from gatenorm.audit.output.formatting import figure

    console.print_table(_table(audit, figure))
    legend = _legend(audit)
    if legend:
        console.say(legend)
    for warning in audit.warnings:
        console.say(f"warning: {warning.message}")
    for thing in audit.not_examined:
        console.say(f"not examined: {thing.what} ({thing.why}{f'; {thing.how}' if thing.how else ''})")
    console.say("")
    for sentence in audit.verdict:
        console.say(sentence)
    report = next((path for name in ("report.html", "audit.json") if (path := directory / name).is_file()), directory)
    console.say(f"report: {report}")


def _table(audit: Any, figure: Any) -> Any:
    gates = list(dict.fromkeys(g.gate for v in audit.variants if v.role == "candidate" for g in v.gates))
    made = table(f"{audit.model.name}: candidates", "variant", ">removed", *(f">{gate}" for gate in gates), "outcome")
    for variant in (v for v in audit.variants if v.role == "candidate"):
        results = {g.gate: g for g in variant.gates}
        cells = []
        for gate in gates:
            found = results.get(gate)
            value = "-" if found is None or found.value is None else figure(found)
            cells.append(value + (_MARKS[found.outcome] if found is not None and found.value is not None else ""))
        star = "* " if variant.name == audit.chosen else ""
        removed = f"{len(variant.plan.added.attention)} ({variant.share:.0%})"
        made.add_row(star + variant.name, removed, *cells, "rejected" if variant.rejected else variant.outcome)
    return made


def _legend(audit: Any) -> str:
    """What the marks in the table mean, of those that are there."""
    candidates = [v for v in audit.variants if v.role == "candidate"]
    there = {g.outcome for v in candidates for g in v.gates if g.value is not None}
    said = [f"{mark.strip()} {outcome}" for outcome, mark in _MARKS.items() if mark and outcome in there]
    said += ["* recommended"] if audit.chosen is not None else []
    said += ["- not measured"] if any(g.value is None for v in candidates for g in v.gates) else []
    return f"marks: {', '.join(said)}" if said else ""
