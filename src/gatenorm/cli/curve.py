"""``gatenorm curve``: perplexity by number of removed sublayers, beside random choices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gatenorm.cli import console, options
from gatenorm.errors import EvaluationError

NAME = "curve"
EXAMPLE = (
    "Example: gatenorm curve ./llama --criteria gate-norm,cosine@self --data wikitext2=wiki.test.raw "
    "--state curve-state.json --plot curve.svg"
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
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N windows or documents.")] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="FILE", help="Keep what was measured here, and go on from it after a stop."),
    ] = None,
    family: options.Family = None,
    json: options.Json = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the curve: FILE.png, FILE.svg or FILE.html.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    batch_size: options.BatchSize = None,
) -> None:
    """Measure the perplexity of MODEL without its 1, 2, 3, ... weakest sublayers, by several criteria."""
    from gatenorm import api
    from gatenorm.calibration.requests import requests
    from gatenorm.evaluation.perplexity import Protocol, check_hardware
    from gatenorm.evaluation.text import read_text

    console.check_json(json)
    if plot:
        from gatenorm.report.plots import check_format

        check_format(plot)
    if documents == "":
        raise EvaluationError("--documents is empty: expected what stands between documents, such as '<|endoftext|>'")
    tokens = options.tokens(calibration, samples, length, None, seed, batch_size)
    names = [name for name in criteria.split(",") if name]
    requests(names, tokens)
    numbers = None if counts is None else options.indices(counts, "--counts")
    read_text(data)
    console.quiet_transformers()
    check_hardware("cpu" if device == "auto" else device, dtype)
    protocol = Protocol(window, documents, limit, batch_size)
    laboratory = api.laboratory(model, family=family, device=device, dtype=dtype)
    with console.progress_bar("curve", "steps") as progress:
        found = api.curve(
            laboratory,
            names,
            data,
            counts=numbers,
            protocol=protocol,
            calibration=tokens,
            seeds=seeds,
            state=state,
            progress=progress,
        )
    if json:
        console.write_json(json, found.to_json())
    if plot:
        from gatenorm.report.curve import plot_curve

        plot_curve(found, plot)
    if json != "-":
        _show(found)


def _show(found: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    title = f"{found.model.name}: perplexity on {found.data['name']} by number of removed attention sublayers"
    table = Table(title=Text(title), title_justify="left")
    table.add_column("removed", justify="right")
    for line in found.lines:
        table.add_column(line.name, justify="right")
    spread = found.spread()
    if spread:
        table.add_column(f"random, {len(found.band)} draws: least, mean, largest", justify="right")
    for count in found.counts:
        cells = [f"{line.perplexity[count]:.4g}" for line in found.lines]
        band = [", ".join(f"{value:.4g}" for value in spread[count])] if spread else []
        table.add_row(str(count), *cells, *band)
    console.print_table(table)
    console.say("protocol: " + "; ".join(f"{k.replace('_', ' ')} {v}" for k, v in found.protocol.items()))
    for warning in found.warnings:
        console.say(f"warning: {warning.message}")
