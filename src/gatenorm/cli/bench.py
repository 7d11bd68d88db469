"""``gatenorm bench``: what removing attention really saves, beside all that it could save."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from gatenorm.cli import console
from gatenorm.cli.options import common, speed
from gatenorm.errors import EvaluationError

NAME = "bench"
EXAMPLE = "Example: gatenorm bench ./llama-8 --baseline ./llama --lengths 512,2048"


def command(
    *,
    model: speed.Models,
    baseline: common.Baseline,
    engine: speed.Engine,
    lengths: speed.Lengths,
    batches: speed.Batches,
    new_tokens: speed.NewTokens,
    rounds: speed.Rounds,
    machine: speed.Machine,
    device: common.Device,
    dtype: common.Dtype,
    threads: common.Threads,
    json: common.Json,
    plot: common.Plot,
) -> None:
    """Measure latency, throughput, memory and cache of MODELs against a baseline, and how near that is to the ideal."""
    from gatenorm.engines import Setting, engine_named
    from gatenorm.speed.measure.bench import Protocol, bench, cases, check, threads_at_hand
    from gatenorm.speed.predict.machines import machine as machine_named
    from gatenorm.speed.predict.machines import machines
    from gatenorm.speed.predict.overheads import with_overheads

    console.check_json(json)
    console.check_plots(plot=plot)
    timed = engine_named(engine, "times")
    if dtype not in ("auto", *timed.dtypes):
        raise EvaluationError(
            "dtype-unknown",
            f"is not a data type of {engine}",
            field="dtype",
            given=dtype,
            expected=", ".join(("auto", *timed.dtypes)),
        )
    if machine is not None and machine != "this" and machine not in machines():
        machine_named(machine)  # which says what there is
    first, others = _variant(baseline) if baseline else None, [_variant(m) for m in model]
    everyone = ([first] if first else []) + others
    check(timed, everyone)
    if engine == "transformers":
        from gatenorm.models.loading import check_hardware

        check_hardware(device, dtype)
    setting = Setting(
        cases=cases(lengths, batches, new_tokens, everyone),
        device=device,
        dtype=dtype,
        threads=threads or threads_at_hand(),
    )
    known = None
    if machine:
        computed = dtype if dtype != "auto" else ("float32" if device == "cpu" else "bfloat16")
        with console.progress_bar("measuring this machine") if machine == "this" else nullcontext():
            known = machine_named(machine, computed, device, setting.threads)
            if machine == "this" and engine == "transformers":
                known = with_overheads(known, computed, device, setting.threads)
    with console.progress_bar("measuring in turns", "runs") as progress:
        found = bench(others, timed, setting, Protocol(rounds, machine=known), baseline=first, progress=progress)
    if json:
        console.write_json(json, found)
    if plot:
        from gatenorm.report.figures.speed import plot_speed

        plot_speed(found, plot)
    if json == "-":
        return
    for table in _tables(found):
        console.print_table(table)
    _remarks(found)
    if plot:
        console.say(f"plot: {plot}")


def _variant(model: str) -> Any:
    from gatenorm.api import open_model
    from gatenorm.speed.measure.variants import Variant

    return Variant.exported(Path(model)) or Variant.of(open_model(model))


def _tables(found: list[Any]) -> list[Any]:
    """A table of times and sizes, and one of speed-ups where there is a baseline."""
    from rich.table import Table
    from rich.text import Text

    protocol = found[0].protocol
    title = f"{protocol.engine}, {protocol.dtype}, {protocol.device}, {protocol.threads} threads"
    times = Table(title=f"{title}: medians of {protocol.rounds} rounds (smallest to largest)", title_justify="left")
    times.add_column("tokens x batch", justify="right")
    times.add_column("model", overflow="fold")
    for column in ("prefill, ms", "first token, ms", "decode, tokens/s", "cache", "peak memory"):
        times.add_column(column, justify="right")
    for timing in found:
        row = [timing.protocol.case, Text(timing.protocol.label)]
        if not timing.measured:
            times.add_row(*row, "skipped", "", "", "", "")
            continue
        times.add_row(
            *row,
            _with_spread(timing.prefill.seconds, scale=1000),
            f"{1000 * timing.first_token.seconds.median:,.4g}",
            _with_spread(timing.decode_tokens_per_second),
            *(
                "not told" if size is None else console.bytes_for_people(size)
                for size in (timing.cache_bytes, timing.peak_bytes)
            ),
        )
    compared = [timing for timing in found if timing.compared]
    return [times, *([_ratios(compared)] if compared else [])]


def _ratios(compared: list[Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"against {compared[0].protocol.baseline}, round by round"), title_justify="left")
    table.add_column("tokens x batch", justify="right")
    table.add_column("model", overflow="fold")
    table.add_column("phase")
    for column in ("speed-up", "ideal", "achieved / ideal", "predicted"):
        table.add_column(column, justify="right")
    table.add_column("cache saved", justify="right")
    for timing in compared:
        saved = timing.cache_share_removed
        for name in ("prefill", "decode"):
            phase, first = timing.phase(name), name == "prefill"
            table.add_row(
                timing.protocol.case if first else "",
                Text(timing.protocol.label if first else ""),
                name,
                _with_spread(phase.speedup, "x"),
                *(
                    "" if value is None else f"{value:.2f}{unit}"
                    for value, unit in ((phase.ideal, "x"), (phase.achieved, ""), (phase.predicted, "x"))
                ),
                f"{saved:.1%}" if first and saved is not None else "",
            )
    return table


def _with_spread(spread: Any, unit: str = "", scale: float = 1) -> str:
    middle, low, high = (_short(value * scale) for value in (spread.median, spread.low, spread.high))
    return f"{middle}{unit} ({low} to {high})"


def _short(value: float) -> str:
    """Three digits that count, without exponents: ``0.0123``, ``1.23``, ``12,345``."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _remarks(found: list[Any]) -> None:
    for timing in found:
        if timing.skipped:
            console.say(f"skipped {timing.protocol.case} on {timing.protocol.label}: {timing.skipped}")
    if any(timing.prefill.ideal is not None for timing in found):
        console.say("ideal: T / (T - the removed layers' attention), the speed-up if nothing else cost anything")
    spreads = [timing.prefill.seconds for timing in found if timing.measured]
    restless = sum(spread.high > 1.5 * spread.low for spread in spreads)
    if restless:
        console.say(f"warning: prefill varied by half and more in {restless} of {len(found)}: was the machine busy?")
