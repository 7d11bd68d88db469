"""``gatenorm audit``: the whole workflow, and a verdict that a decision can rest on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from gatenorm.cli import console
from gatenorm.cli.audit_options import SETTINGS, namer, overlay
from gatenorm.cli.options import audit as options
from gatenorm.cli.options import common
from gatenorm.errors import fields_named
from gatenorm.records.audit import FAILS, INCONCLUSIVE, PASSES

__all__ = ["EXAMPLE", "NAME", "SETTINGS", "command"]

NAME = "audit"
EXAMPLE = "Example: gatenorm audit ./llama -o ./llama-audit --data wikitext2=wiki.test.raw --zeroshot ./zeroshot"
# What a shell takes for "no": the gate of --fail-on does not pass.
FAILED = 1
# Behind a figure, by what its gate says of it.
_MARKS = {PASSES: "", FAILS: " !", INCONCLUSIVE: " ?"}


def command(
    *,
    model: common.OptionalModel,
    config: options.ConfigFile,
    out: options.Out,
    json: common.Json,
    json_lines: options.JsonLines,
    fail_on: options.FailOn,
    **given: Any,
) -> None:
    """Run the whole workflow on MODEL and say which budget passes, on what evidence. DIR keeps all of it."""
    from gatenorm.audit.plan.config import config_from, read_config
    from gatenorm.audit.run.main import default_directory, failed, run_audit
    from gatenorm.models.named import default_model

    console.check_json(json)
    console.quiet_transformers()
    model = model or default_model()
    directory = out or default_directory(model)
    with fields_named(namer(given, config)), _listener(json_lines) as listener:
        laid_over = overlay(given)
        settings = config_from(laid_over) if config is None else read_config(config, laid_over)
        with console.kept_in(directory):
            audit = run_audit(model, directory, settings, fail_on=fail_on, listener=listener)
    if json:
        console.write_json(json, audit)
    if not json_lines and json != "-":
        _show(audit, directory)
    lines = failed(audit, fail_on) if fail_on else []
    for line in lines:
        sys.stderr.write(f"--fail-on {fail_on}: {line}\n")
    if lines:
        raise typer.Exit(FAILED)


@contextmanager
def _listener(json_lines: bool) -> Iterator[Any]:
    """Where events go: to stdout as JSON, to a line on the terminal, or nowhere."""
    from gatenorm.audit.run import progress

    if json_lines:
        yield progress.json_lines
        return
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    terminal = Console(stderr=True)
    with terminal.status("audit") as status:
        yield lambda event: status.update(progress.in_words(event))


def _show(audit: Any, directory: Path) -> None:
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
    from rich.table import Table
    from rich.text import Text

    gates = list(dict.fromkeys(g.gate for v in audit.variants if v.role == "candidate" for g in v.gates))
    table = Table(title=Text(f"{audit.model.name}: candidates"), title_justify="left")
    table.add_column("variant", no_wrap=True, overflow="fold")
    table.add_column("removed", justify="right")
    for gate in gates:
        table.add_column(gate, justify="right")
    table.add_column("outcome")
    for variant in (v for v in audit.variants if v.role == "candidate"):
        results = {g.gate: g for g in variant.gates}
        cells = []
        for gate in gates:
            found = results.get(gate)
            value = "-" if found is None or found.value is None else figure(found)
            cells.append(value + (_MARKS[found.outcome] if found is not None and found.value is not None else ""))
        star = "* " if variant.name == audit.chosen else ""
        removed = f"{len(variant.plan.added.attention)} ({variant.share:.0%})"
        table.add_row(Text(star + variant.name), removed, *cells, "rejected" if variant.rejected else variant.outcome)
    return table


def _legend(audit: Any) -> str:
    """What the marks in the table mean, of those that are there."""
    candidates = [v for v in audit.variants if v.role == "candidate"]
    there = {g.outcome for v in candidates for g in v.gates if g.value is not None}
    said = [f"{mark.strip()} {outcome}" for outcome, mark in _MARKS.items() if mark and outcome in there]
    said += ["* recommended"] if audit.chosen is not None else []
    said += ["- not measured"] if any(g.value is None for v in candidates for g in v.gates) else []
    return f"marks: {', '.join(said)}" if said else ""
