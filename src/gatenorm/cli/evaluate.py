"""``gatenorm eval``: what survived."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gatenorm.cli import console, evaluate_tables, options
from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.registry import TASKS

NAME = "eval"
EXAMPLE = "Example: gatenorm eval ./llama-8 --baseline ./llama --tasks perplexity --data wikitext2=wiki.test.raw"
_KNOWN = "; ".join(f"{t.name}{f'[:{t.argument}]' if t.argument else ''}: {t.what}" for t in TASKS.values())
# Records whose items are few and are what one reads them for.
_ITEMS_MATTER = ("comparison", "domain", "refusal")


def command(
    model: options.Model,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="[TASK=]PATH",
            help="A text, JSON-lines or parquet file, wikitext2, wikitext2=FILE for a local raw file, or for zeroshot "
            "a directory with <task>_<split>.jsonl files; can be given several times. For demo and what was pruned "
            "from it [default: its own held-out stories and tasks].",
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="MODEL", help="Compare with this model, item by item.")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option("--tasks", metavar="A,B,...", help=f"What to measure [default: perplexity]. {_KNOWN}."),
    ] = None,
    documents: Annotated[
        str | None,
        typer.Option(
            "--documents",
            metavar="SEP",
            help="Perplexity of each document by itself; SEP stands between them, 'rows' takes a file's rows.",
        ),
    ] = None,
    text_field: Annotated[
        str, typer.Option("--text-field", metavar="NAME", help="Where JSON-lines and parquet files hold the text.")
    ] = "text",
    window: Annotated[
        int | None,
        typer.Option("--window", min=2, help="Longest input in tokens [default: the model's maximum, at most 2048]."),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            "--stride",
            min=1,
            help="Perplexity of windows that begin N tokens apart, where only tokens not seen before count "
            "[default: the window, so that none overlap].",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first N windows, documents or items of each task.")
    ] = None,
    new_tokens: Annotated[
        int, typer.Option("--new-tokens", min=1, help="Length of the continuations that domain and refusal look at.")
    ] = 32,
    refusal_rule: Annotated[
        str | None, typer.Option("--refusal-rule", metavar="FILE", help="JSON with patterns that make a refusal.")
    ] = None,
    json: options.Json = None,
    items: Annotated[bool, typer.Option("--items", help="Write every single item into the JSON.")] = False,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE", help="Draw retrieval by length and depth: FILE.png, .svg or .html."),
    ] = None,
    device: options.Device = "cpu",
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")] = "auto",
    batch_size: Annotated[
        str, typer.Option("--batch-size", metavar="N|auto", help="Sequences at a time; auto: as memory allows.")
    ] = "auto",
    engine: Annotated[
        str,
        typer.Option("--engine", metavar="NAME", help="transformers; or vllm, for zeroshot and harness:NAME alone."),
    ] = "transformers",
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Measure again what was measured before.")] = False,
) -> None:
    """Measure what MODEL is worth by stated protocols, and what changed against a baseline."""
    from gatenorm.api import evaluate
    from gatenorm.evaluation.core.job import Request
    from gatenorm.results import ResultStore

    console.check_json(json)
    if plot is not None:
        from gatenorm.report.figures.drawing import check_format

        check_format(Path(plot))
        if "retrieval" not in (tasks or "").split(","):
            raise EvaluationError(f"--plot {plot}: it shows the task retrieval, which is not among --tasks")
    if documents == "":
        raise EvaluationError("--documents is empty: expected what stands between documents, such as '<|endoftext|>'")
    request = Request(
        text_field=text_field,
        documents=documents,
        window=window,
        stride=stride,
        limit=limit,
        new_tokens=new_tokens,
        refusal_rule=refusal_rule,
    )
    console.quiet_transformers()
    done: list[Any] = []
    cache = None if no_cache else ResultStore()
    try:
        evaluate(
            model,
            tasks,
            data or (),
            baseline=baseline,
            request=request,
            device=device,
            dtype=dtype,
            batch_size=_rows(batch_size),
            engine=engine,
            cache=cache,
            bars=console.progress_bar,
            finished=done.append,
        )
    except KeyboardInterrupt:
        if cache and done:
            sys.stderr.write(
                f"{len(done)} finished results are kept in {cache.directory}: the same command goes on there\n"
            )
        raise
    records = [d.evidence for d in done]
    if json:
        console.write_json(json, [_for_file(record, items) for record in records])
    if plot is not None:
        from gatenorm.report.figures.retrieval import plot_retrieval

        plot_retrieval(records, Path(plot))
    if json != "-":
        evaluate_tables.show(records)
        cached = sum(d.cached for d in done)
        if cached:
            console.say(f"{cached} of these figures were measured before (--no-cache measures again)")


def _rows(batch_size: str) -> int | None:
    if batch_size == "auto":
        return None
    if not batch_size.isdecimal() or int(batch_size) < 1:
        raise EvaluationError(f"--batch-size {batch_size}: expected a whole number from 1, or auto")
    return int(batch_size)


def _for_file(record: Any, items: bool) -> dict[str, Any]:
    data: dict[str, Any] = record.to_json()
    if not items and record.kind not in _ITEMS_MATTER:
        data.pop("items", None)
    return data
