"""An audit on the terminal: the candidates at their gates, then what follows from that in plain words."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from gatenorm.audit.output.output import AUDIT_FILE
from gatenorm.cli import console
from gatenorm.cli.audit_options import remedy
from gatenorm.cli.table_layout import fits
from gatenorm.cli.tables import table
from gatenorm.records.audit import (
    CANDIDATE,
    FAILS,
    INCONCLUSIVE,
    PASSES,
    QUALITY,
    SAFETY,
    SPEED,
    WORST_FIRST,
    Audit,
    AuditedVariant,
    GateResult,
)
from gatenorm.report.gate_figures import figure, share
from gatenorm.report.page import PAGE
from gatenorm.report.page.audit_view import verb
from gatenorm.surgery.operation import participles

# Follows a figure, by what its gate says of it.
_MARKS = {PASSES: "", FAILS: " !", INCONCLUSIVE: " ?"}


def show(audit: Audit, directory: Path, named: Callable[[str], str]) -> None:
    """The candidates at their gates, what was not examined, and the verdict; ``named`` puts options for keys."""
    whole = _table(audit, _by_gate)
    console.print_table(whole if fits(whole) else _table(audit, _by_aspect))
    legend = _legend(audit)
    if legend:
        console.say(f"marks: {', '.join(legend)}")
    console.say_each("warning", (warning.message for warning in audit.warnings))
    gaps = (f"{gap.what} ({'; '.join(filter(None, (gap.why, remedy(gap, named))))})" for gap in audit.not_examined)
    console.say_each("not examined", gaps)
    console.say("")
    said = audit.verdict
    console.say(said.headline)
    about = next((v for v in audit.variants if v.name == said.about), None)
    facts = [("layers", _picture(audit, about))] if about is not None else []
    facts.append(("reason", said.reason))
    facts += [(one.aspect, one.text) for one in said.judgements]
    facts.append(("ranking", said.ranking))
    for name, text in facts:
        console.say(f"{name:<8} {text}", indent=9)
    report = next((path for name in (PAGE, AUDIT_FILE) if (path := directory / name).is_file()), directory)
    # Unbroken, so that they can be copied.
    console.say_whole(f"report   {report}")
    if said.next is not None:
        console.say(f"next     {said.next.what}:", indent=9)
        console.say_whole(f"  {said.next.command}")


def _picture(audit: Audit, variant: AuditedVariant) -> str:
    """A sign for each layer, the first one on the left: ``-`` where its attention is gone or replaced, ``.`` where it
    has none that could be, or had lost it before.
    """
    gone, ranked = {*variant.plan.added.attention}, {*audit.scores[0].ranking}
    signs = "".join("-" if i in gone else "#" if i in ranked else "." for i in range(audit.model.layers))
    other = ", . without attention that could be" if "." in signs else ""
    return f"{signs} (# kept, - {participles(variant.plan.added)}{other}, the first layer on the left)"


def _table(audit: Audit, columns: Callable[[Sequence[GateResult]], dict[str, GateResult]]) -> Table:
    """A row for each candidate; ``columns`` picks the gates that are shown of it."""
    candidates = [v for v in audit.variants if v.role == CANDIDATE]
    names = list(dict.fromkeys(name for v in candidates for name in columns(v.gates)))
    title = f"{audit.model.name}: candidates"
    rows = table(title, "variant", f">{verb(audit)}", *(f">{name}" for name in names), "outcome")
    for variant in candidates:
        shown = {k: figure(g) + _MARKS[g.outcome] for k, g in columns(variant.gates).items() if g.value is not None}
        star = "* " if variant.name == audit.chosen else ""
        removed = f"{len(variant.plan.added.attention)} ({share(variant.share)})"
        outcome = "rejected" if variant.rejected else variant.outcome
        rows.add_row(star + variant.name, removed, *(shown.get(name, "-") for name in names), outcome)
    return rows


def _by_gate(gates: Sequence[GateResult]) -> dict[str, GateResult]:
    return {gate.gate: gate for gate in gates}


def _by_aspect(gates: Sequence[GateResult]) -> dict[str, GateResult]:
    """Of each aspect the first gate of those with the worst outcome."""
    aspects = [a for a in (QUALITY, SPEED, SAFETY) if any(gate.aspect == a for gate in gates)]
    return {a: min((g for g in gates if g.aspect == a), key=lambda g: WORST_FIRST.index(g.outcome)) for a in aspects}


def _legend(audit: Audit) -> list[str]:
    """What the marks in the table mean, of those that occur."""
    results = [g for v in audit.variants if v.role == CANDIDATE for g in v.gates]
    outcomes = {g.outcome for g in results if g.value is not None}
    legend = [f"{mark.strip()} {outcome}" for outcome, mark in _MARKS.items() if mark and outcome in outcomes]
    legend += ["* recommended"] if audit.chosen is not None else []
    return legend + (["- not measured"] if any(g.value is None for g in results) else [])
