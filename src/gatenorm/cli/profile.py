"""``gatenorm profile``: what attention and MLP take of time, weights, FLOPs and cache."""

from __future__ import annotations

from typing import Any

from gatenorm.cli import console
from gatenorm.cli.options import common, speed
from gatenorm.errors import EvaluationError, did_you_mean

NAME = "profile"
EXAMPLE = "Example: gatenorm profile ./llama --lengths 512,2048"


def command(
    *,
    model: common.Model,
    lengths: speed.Lengths,
    batches: speed.Batches,
    new_tokens: speed.NewTokens = 8,
    rounds: speed.Rounds = 3,
    attention: speed.Attention,
    device: common.Device,
    dtype: common.Dtype,
    threads: common.Threads,
    json: common.Json,
    plot: common.Plot,
) -> None:
    """Show the time of attention and of MLP in MODEL by prompt length, and their shares of weights, FLOPs and cache."""
    from gatenorm.api import open_model
    from gatenorm.engines import Setting
    from gatenorm.models.loading import check_hardware
    from gatenorm.speed.measure.bench import cases, threads_at_hand
    from gatenorm.speed.measure.profile_report import profile_model
    from gatenorm.speed.measure.variants import Variant

    console.check_json(json)
    console.check_plots(plot=plot)
    if attention not in (None, "sdpa", "eager"):
        raise EvaluationError(
            "attention-unknown",
            "is not known",
            field="attention",
            given=attention,
            hint=did_you_mean(attention, ("sdpa", "eager")),
        )
    layout = open_model(model)
    asked = cases(lengths, batches, new_tokens, [Variant.of(layout)])
    console.quiet_transformers()
    check_hardware(device, dtype)
    setting = Setting(
        cases=asked, device=device, dtype=dtype, threads=threads or threads_at_hand(), attention=attention
    )
    with console.progress_bar("profiling", "runs") as progress:
        found = profile_model(layout, setting, rounds, progress)
    if json:
        console.write_json(json, found)
    if plot:
        from gatenorm.report.figures.speed import plot_profile

        plot_profile(found, plot)
    if json == "-":
        return
    console.print_table(_table(found))
    _remarks(found)
    if plot:
        console.say(f"plot: {plot}")


def _table(found: list[Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    protocol = found[0].protocol
    title = (
        f"{found[0].model.name}: {protocol.engine}, {protocol.dtype}, {protocol.device}, "
        f"{protocol.threads} threads, medians of {protocol.rounds} runs"
    )
    table = Table(title=Text(title), title_justify="left")
    table.add_column("tokens x batch", justify="right")
    table.add_column("phase")
    columns = ("total, ms", "attention, ms", "MLP, ms", "rest, ms", "attention / MLP", "attention's time", "its FLOPs")
    for column in columns:
        table.add_column(column, justify="right")
    for profile in found:
        for name, phase in profile.phases().items():
            steps = 1 if name == "prefill" else profile.protocol.new_tokens
            seconds = (phase.total_seconds, phase.attention_seconds, phase.mlp_seconds, phase.outer_seconds)
            table.add_row(
                profile.protocol.case if name == "prefill" else "",
                name if name == "prefill" else "one token",
                *(f"{part / steps * 1000:,.2f}" for part in seconds),
                f"{phase.attention_over_mlp:.2f}",
                f"{phase.attention_share:.1%}",
                f"{phase.attention_flops_share:.1%}",
            )
    return table


def _remarks(found: list[Any]) -> None:
    for profile in found:
        if profile.skipped:
            console.say(f"skipped {profile.protocol.case}: {profile.skipped}")
    last = next((profile for profile in reversed(found) if profile.phases()), None)
    if last:
        cache = console.bytes_for_people(last.cache_bytes)
        console.say(
            f"attention holds {last.attention_weights_share:.1%} of the weights and all of the key/value cache "
            f"({cache} at the last length and batch)"
        )
    console.say("attention / MLP: mean attention sublayer over mean MLP, each with its norm and residual add")
