"""``gatenorm audit``: the whole workflow, and a verdict that a decision can rest on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from gatenorm.cli import audit_options, console, options

NAME = "audit"
EXAMPLE = "Example: gatenorm audit ./llama -o ./llama-audit --data wikitext2=wiki.test.raw --zeroshot ./zeroshot"
# What a shell takes for "no": a gate that was named does not stand.
FAILED = 1
# Behind a figure, by what its gate says of it.
_MARKS = {"stands": "", "falls": " !", "not proven": " ?"}


def command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="A checkpoint directory, a model id of the hub, or demo, the default."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="The audit's directory and state [default: ./audit-NAME]."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="YAML; options given beside it win.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="TEXT", help="A text for perplexity, as in eval; can be given several times."),
    ] = None,
    documents: Annotated[
        str | None, typer.Option("--documents", metavar="SEP", help="What stands between documents of --data texts.")
    ] = None,
    zeroshot: Annotated[
        str | None, typer.Option("--zeroshot", metavar="DIR|hub", help="Files of the seven zero-shot tasks.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="FILE", help="Your own prompts, or a text of your work.")
    ] = None,
    refusal: Annotated[
        str | None,
        typer.Option("--refusal", metavar="FILE|packaged|none", help="Items that must be refused, or answered."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first N windows, documents or items of everything.")
    ] = None,
    window: Annotated[int | None, typer.Option("--window", min=2, help="Tokens in a window of a text.")] = None,
    criteria: Annotated[
        str | None, typer.Option("--criteria", metavar="A,B,...", help="Rankings to audit [default: gate-norm].")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option("--calibration", metavar="FILE", help="A text for cosine and the like.")
    ] = None,
    protect: Annotated[
        str | None, typer.Option("--protect", metavar="0,1", help="Layers that must keep their attention.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="4,8", help="Budgets beside 10, 20 and 40%, as numbers.")
    ] = None,
    share: Annotated[
        str | None, typer.Option("--share", metavar="10%,20%", help="Budgets in place of 10, 20 and 40%.")
    ] = None,
    target_speedup: Annotated[
        str | None, typer.Option("--target-speedup", metavar="1.2", help="A budget by the cost model, as in prune.")
    ] = None,
    max_cache_gb: Annotated[
        float | None, typer.Option("--max-cache-gb", help="A budget that brings the key/value cache below this size.")
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option("--gate", metavar="GATE=LIMIT", help="Another limit, or GATE=off; can be given several times."),
    ] = None,
    search: Annotated[
        str | None, typer.Option("--search", metavar="GATE", help="Find the largest budget that stands at a gate.")
    ] = None,
    max_perplexity_rise: Annotated[
        str | None,
        typer.Option("--max-perplexity-rise", metavar="2%", help="The gate's limit, and a search by it."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="A,B|none", help="Engines to time in [default: transformers]."),
    ] = None,
    lengths: Annotated[
        str | None, typer.Option("--lengths", metavar="128,512", help="Prompt lengths to time, as in bench.")
    ] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="How often everything is timed.")] = None,
    price_per_hour: Annotated[
        float | None, typer.Option("--price-per-hour", metavar="PRICE", help="Of the machine: cost per million tokens.")
    ] = None,
    recover: Annotated[
        bool | None, typer.Option("--recover/--no-recover", help="Train what aggressive budgets leave.")
    ] = None,
    recover_data: Annotated[
        str | None, typer.Option("--recover-data", metavar="FILE", help="The text to train on.")
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option("--fail-on", metavar="GATE|any", help="Exit with 1 unless this gate stands: for CI pipelines."),
    ] = None,
    executor: Annotated[str | None, typer.Option("--executor", metavar="local|ray", help="Who does the work.")] = None,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", metavar="ADDRESS", help="A cluster; without one Ray is started here.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, ...; auto spreads a model.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Sequences at a time.")] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Processor threads of each task [default: all; 1 for small models]."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of random rankings and drawn tokens.")] = None,
    json: options.Json = None,
    json_lines: Annotated[
        bool, typer.Option("--json-lines", help="Progress as JSON on stdout, a line an event.")
    ] = False,
) -> None:
    """Carry out the whole workflow on MODEL and say which budget stands, on what evidence. DIR keeps all of it."""
    from gatenorm.audit.plan.config import Config, read_config
    from gatenorm.audit.run.main import default_directory, failed, run_audit
    from gatenorm.models.named import default_model

    console.check_json(json)
    console.quiet_transformers()
    given = dict(locals())
    settings = read_config(config) if config else Config()
    model = model or default_model()
    directory = out or default_directory(model)
    with audit_options.named(given), _listener(json_lines) as listener:
        settings = audit_options.merged(settings, given)
        with console.kept_in(directory):
            audit = run_audit(model, directory, settings, fail_on=fail_on, listener=listener)
    if json:
        console.write_json(json, audit.to_json())
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
