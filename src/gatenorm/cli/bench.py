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
    from gatenorm.cli.tables.speed import show_bench
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
    if plot:
        from gatenorm.report.figures.speed import plot_speed

        plot_speed(found, plot)
    console.deliver(json, found, lambda: show_bench(found, plot))


def _variant(model: str) -> Any:
    from gatenorm.api import open_model
    from gatenorm.speed.measure.variants import Variant

    return Variant.exported(Path(model)) or Variant.of(open_model(model))
