"""``gatenorm curve``: what is left by number of removed sublayers: perplexity, and on request tasks and speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gatenorm.cli import console, options
from gatenorm.errors import CriterionError, EvaluationError
from gatenorm.records import to_json

NAME = "curve"
EXAMPLE = (
    "Example: gatenorm curve ./llama --criteria gate-norm,cosine@self --data wikitext2=wiki.test.raw "
    "--state curve-state --plot curve.svg"
)


def command(
    model: options.Model,
    data: Annotated[
        str, typer.Option("--data", metavar="TEXT", help="A text file, wikitext2, or wikitext2=FILE: as in eval.")
    ],
    criteria: options.Criteria = "gate-norm,cosine@random,cosine@self",
    calibration: options.Calibration = None,
    samples: options.Samples = 32,
    length: options.Length = 256,
    counts: Annotated[
        str | None,
        typer.Option("--counts", metavar="1,2,4-8", help="Numbers of removed sublayers [default: up to half of them]."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=0, help="Random rankings that make the band.")] = 5,
    window: Annotated[
        int | None,
        typer.Option("--window", min=2, help="Tokens in a window [default: the model's maximum, at most 2048]."),
    ] = None,
    documents: Annotated[
        str | None,
        typer.Option("--documents", metavar="SEP", help="Evaluate each document by itself; SEP stands between them."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first N windows or documents, and items of a task.")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option("--tasks", metavar="A,B,...", help="Accuracy too, on tasks as in eval: zeroshot; demo for demo."),
    ] = None,
    task_data: Annotated[
        list[str] | None,
        typer.Option("--task-data", metavar="[TASK=]PATH", help="What they read, as --data of eval; several times."),
    ] = None,
    task_limit: Annotated[
        int | None, typer.Option("--task-limit", min=1, help="Items of each task [default: --limit, else all].")
    ] = None,
    latency: Annotated[
        int | None,
        typer.Option(
            "--latency",
            min=1,
            metavar="TOKENS",
            help="Speed too: read so many tokens and decode behind them, in turns with the unpruned model.",
        ),
    ] = None,
    new_tokens: Annotated[int, typer.Option("--new-tokens", min=1, help="Tokens to decode for --latency.")] = 32,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often both take their turn for --latency.")] = 5,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="Keep what was measured here, and go on from it after a stop."),
    ] = None,
    family: options.Family = None,
    json: options.Json = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the curve: FILE.png, FILE.svg or FILE.html.")
    ] = None,
    pareto: Annotated[
        Path | None,
        typer.Option("--pareto", metavar="FILE", help="Quality against speed (--latency): FILE.png, .svg or .html."),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    batch_size: options.BatchSize = None,
) -> None:
    """Measure what MODEL is worth without its 1, 2, 3, ... weakest sublayers, by several criteria."""
    from gatenorm import api
    from gatenorm.analysis.curve import evaluation_text
    from gatenorm.analysis.latency import LatencyProbe
    from gatenorm.criteria.criterion_spec import criterion_specs
    from gatenorm.evaluation.tasks.perplexity import Protocol
    from gatenorm.models.loading import check_hardware

    console.check_json(json)
    for field, path in (("plot", plot), ("pareto", pareto)):
        if path:
            from gatenorm.report.figures.drawing import check_format

            check_format(path, field)
    if pareto and latency is None:
        raise EvaluationError(f"--pareto {pareto} draws quality against speed: give --latency TOKENS too")
    if tasks is None and (task_data or task_limit):
        raise EvaluationError("--task-data and --task-limit are about --tasks: name the tasks, or leave them out")
    if documents == "":
        raise EvaluationError("--documents is empty: expected what stands between documents, such as '<|endoftext|>'")
    tokens = options.tokens(calibration, samples, length, None, seed, batch_size)
    names = [name for name in criteria.split(",") if name]
    if not names:
        raise CriterionError("--criteria names none: expected one or more, such as gate-norm,cosine@random")
    criterion_specs(names, tokens)
    numbers = None if counts is None else options.indices(counts, "--counts")
    evaluation_text(data)
    console.quiet_transformers()
    check_hardware(device, dtype)
    protocol = Protocol(window, documents, limit, batch_size)
    session = api.session(model, family=family, device=device, dtype=dtype)
    timing = None if latency is None else LatencyProbe(latency, new_tokens, rounds=rounds)
    with console.kept_in(state), console.progress_bar("curve", "steps") as progress:
        found = api.curve(
            session,
            names,
            data,
            counts=numbers,
            protocol=protocol,
            calibration=tokens,
            seed=seed,
            seeds=seeds,
            tasks=tasks or (),
            task_data=task_data or (),
            task_limit=task_limit or limit,
            latency=timing,
            state=state,
            progress=progress,
        )
    if json:
        console.write_json(json, to_json(found))
    if plot:
        from gatenorm.report.figures.curve import plot_curve

        plot_curve(found, plot)
    if pareto:
        from gatenorm.report.figures.pareto import plot_pareto

        plot_pareto(found, pareto)
    if json != "-":
        _show(found)


def _show(found: Any) -> None:
    name = found.model.name
    columns = _columns(found, lambda line, n: f"{line.perplexity[n]:.4g}")
    spread = found.spread()
    if spread:
        head = f"random, {len(found.band)} draws: least, geom. mean, largest"
        columns[head] = [", ".join(f"{value:.4g}" for value in spread[n]) for n in found.counts]
    title = f"{name}: perplexity on {found.data['name']} by number of removed attention sublayers"
    console.print_table(_by_count(found, title, columns))
    console.say("protocol: " + _words(found.protocol))
    if found.has("accuracy"):
        columns = _columns(found, lambda line, n: f"{line.figures['accuracy'][n]:.3f}")
        console.print_table(_by_count(found, f"{name}: mean accuracy on the tasks", columns))
        judged = (f"{task} ({how['figure']})" for task, how in found.measured.items() if how.get("figure"))
        console.say(f"tasks: {', '.join(judged)}")
    if found.has("prefill_speedup"):
        columns = _columns(found, _speed)
        console.print_table(_by_count(found, f"{name}: speed-up over the unpruned model, prefill / decode", columns))
        console.say("protocol: " + _words(found.measured["latency"]))
    for warning in found.warnings:
        console.say(f"warning: {warning.message}")


def _columns(found: Any, cell: Callable[[Any, int], str]) -> dict[str, list[str]]:
    return {line.name: [cell(line, n) for n in found.counts] for line in found.lines}


def _speed(line: Any, count: int) -> str:
    return " / ".join(f"{line.figures[f'{phase}_speedup'][count]:.2f}" for phase in ("prefill", "decode"))


def _by_count(found: Any, title: str, columns: Mapping[str, Sequence[str]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    table.add_column("removed", justify="right")
    for name in columns:
        table.add_column(name, justify="right")
    for count, *cells in zip(found.counts, *columns.values(), strict=True):
        table.add_row(str(count), *cells)
    return table


def _words(protocol: Any) -> str:
    return "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in protocol.items())
