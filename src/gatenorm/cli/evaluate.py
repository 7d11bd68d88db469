"""``gatenorm eval``: what survived."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from gatenorm.cli import console, options
from gatenorm.errors import EvaluationError

NAME = "eval"
EXAMPLE = "Example: gatenorm eval ./llama-8 --baseline ./llama --data wikitext2=wiki.test.raw"
TASKS = ("perplexity",)
_MODELS_OF_ITS_WORLD = "demo and what was pruned from it"


def command(
    model: options.Model,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="TEXT",
            help="A text file, wikitext2, or wikitext2=FILE for a local raw file. For demo and what was pruned from it "
            "[default: its own held-out stories and tasks].",
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="MODEL", help="Compare with this model.")
    ] = None,
    tasks: Annotated[str, typer.Option("--tasks", help="What to measure: perplexity.")] = "perplexity",
    documents: Annotated[
        str | None,
        typer.Option("--documents", metavar="SEP", help="Evaluate each document by itself; SEP stands between them."),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option("--window", min=2, help="Tokens in a window [default: the model's maximum, at most 2048]."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N windows or documents.")] = None,
    json: options.Json = None,
    device: options.Device = "cpu",
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")] = "auto",
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Windows at a time.")] = None,
) -> None:
    """Measure the perplexity of MODEL, and of a baseline, by a stated protocol; for demo its tasks too."""
    for task in tasks.split(","):
        if task not in TASKS:
            raise EvaluationError(f"--tasks {task} is not known; known: {', '.join(TASKS)}")
    from gatenorm.api import open_model
    from gatenorm.evaluation.perplexity import Protocol, check_hardware
    from gatenorm.evaluation.text import read_text

    console.check_json(json)
    if documents == "":
        raise EvaluationError("--documents is empty: expected what stands between documents, such as '<|endoftext|>'")

    console.quiet_transformers()
    check_hardware(device, dtype)
    if data is None:
        about_text = {"--documents": documents, "--window": window, "--limit": limit, "--batch-size": batch_size}
        unused = [option for option, given in about_text.items() if given is not None]
        if unused:
            raise EvaluationError(f"{unused[0]} is about a text: give --data, or leave it out")
        records = _own_world([m for m in (baseline, model) if m], device, dtype)
        if json:
            console.write_json(json, [evidence.to_json() for of_one in records for evidence in of_one])
        if json != "-":
            _show([of_one[0] for of_one in records])
            _show_tasks(records)
        return
    text = read_text(data)
    protocol = Protocol(window, documents, limit, batch_size)
    # Everything that can be wrong with either model is said before minutes are spent on the other.
    layouts = [open_model(m) for m in (baseline, model) if m]
    measured = []
    for layout in layouts:
        protocol = _same_window(protocol, layouts)
        measured.append(_measure(layout, text, protocol, device, dtype))
    if json:
        console.write_json(json, [evidence.to_json() for evidence in measured])
    if json != "-":
        _show(measured)


def _own_world(models: list[str], device: str, dtype: str) -> list[list[Any]]:
    """Perplexity and tasks in the built-in model's own world, for models that speak its language."""
    from gatenorm.api import open_model
    from gatenorm.demo.evaluation import measure
    from gatenorm.demo.package import speaks_its_language

    layouts = [open_model(m) for m in models]
    for layout in layouts:
        if not speaks_its_language(layout.checkpoint.directory):
            name = layout.identity().name
            raise EvaluationError(
                f"{name} needs --data: only {_MODELS_OF_ITS_WORLD} have stories and tasks of their own"
            )
    measured = []
    for layout in layouts:
        with console.progress_bar(f"stories and tasks for {layout.identity().name}", "items") as progress:
            measured.append(measure(layout, device=device, dtype=dtype, progress=progress))
    return measured


def _show_tasks(measured: list[list[Any]]) -> None:
    """Accuracy by kind of task, a column for each model."""
    from rich.table import Table

    table = Table(title="tasks on worlds never trained on: accuracy", title_justify="left")
    table.add_column("task")
    table.add_column("what is asked", overflow="fold")
    for column in ("items", "chance", *(records[0].model.name for records in measured)):
        table.add_column(column, justify="right")
    for kinds in zip(*(records[1:] for records in measured), strict=True):
        first = kinds[0]
        accuracies = [f"{e.figures['accuracy']:.1%} ± {e.figures['standard_error']:.1%}" for e in kinds]
        table.add_row(
            first.protocol["task"],
            first.protocol["asks"],
            f"{first.figures['items']:.0f}",
            f"{first.figures['chance']:.0%}",
            *accuracies,
        )
    console.print_table(table)


def _same_window(protocol: Any, layouts: list[Any]) -> Any:
    """The window that all compared models can take, so that both figures rest on the same tokens."""
    contexts = [layout.context for layout in layouts if layout.context]
    from gatenorm.evaluation.perplexity import DEFAULT_WINDOW

    return protocol if protocol.window or not contexts else replace(protocol, window=min(DEFAULT_WINDOW, *contexts))


def _measure(layout: Any, text: Any, protocol: Any, device: str, dtype: str) -> Any:
    from gatenorm.evaluation.perplexity import measure

    with console.progress_bar(f"perplexity of {layout.identity().name}", "tokens") as progress:
        return measure(layout, text, protocol, device=device, dtype=dtype, progress=progress)


def _show(measured: list[Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from gatenorm.records import spans

    first = measured[0]
    table = Table(title=Text(f"perplexity on {first.data['name']}"), title_justify="left")
    for column in ("model", "attention removed in"):
        table.add_column(column, overflow="fold")
    for column in ("perplexity", "change", "nats/token", "tokens", "seconds"):
        table.add_column(column, justify="right")
    for evidence in measured:
        figures = evidence.figures
        change = "" if evidence is first else f"{figures['perplexity'] / first.figures['perplexity'] - 1:+.2%}"
        table.add_row(
            Text(evidence.model.name),
            spans(evidence.removed),
            f"{figures['perplexity']:.4g}",
            change,
            f"{figures['nll']:.4f}",
            f"{figures['tokens']:,.0f}",
            f"{evidence.seconds:.1f}",
        )
    console.print_table(table)
    if "entropy" in first.figures:
        console.say(f"the stories' own entropy under their generator: {first.figures['entropy']:.4f} nats/token")
    console.say("protocol: " + "; ".join(f"{k.replace('_', ' ')} {v}" for k, v in first.protocol.items()))
    if len({e.figures["tokens"] for e in measured}) > 1:
        console.say("note: the models cut the text into different tokens, so these perplexities do not compare")
    for evidence in measured:
        if evidence.figures["perplexity"] > 100:
            console.say(
                f"warning: {evidence.model.name} is above 100: a layer that it needed is gone, or the text is foreign"
            )
