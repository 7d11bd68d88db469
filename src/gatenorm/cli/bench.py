"""``gatenorm bench``: what removing attention really saves, beside all that it could save."""

from typing import Unpack

from gatenorm.cli import console
from gatenorm.cli.options import common, speed

NAME = "bench"
EXAMPLE = "Example: gatenorm bench ./llama-8 --baseline ./llama --lengths 512,2048"


def command(
    *,
    model: speed.Models,
    baseline: common.Baseline,
    engine: speed.Engine,
    new_tokens: speed.NewTokens,
    rounds: speed.Rounds,
    machine: speed.Machine,
    json: common.Json,
    csv: common.Csv,
    plot: common.Plot,
    **cases: Unpack[speed.Cases],
) -> None:
    """Measure latency, throughput, memory and cache of MODELs against a baseline, and how near that is to the ideal."""
    from gatenorm import api
    from gatenorm.cli.tables.speed import show_bench

    with console.progress_bar("measuring in turns", "tokens") as progress:
        timings = api.bench(
            model,
            baseline,
            engine=engine,
            new_tokens=new_tokens,
            rounds=rounds,
            machine=machine,
            progress=progress,
            **cases,
        )
    if plot:
        from gatenorm.report.figures.speed import plot_speed

        plot_speed(timings, plot)
    console.deliver(json, timings, lambda: show_bench(timings, plot), csv, timings.rows())
