"""``gatenorm profile``: what attention and MLP take of time, weights, FLOPs and cache."""

from __future__ import annotations

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
    from gatenorm.cli.tables.speed import show_profile
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
    if plot:
        from gatenorm.report.figures.speed import plot_profile

        plot_profile(found, plot)
    console.deliver(json, found, lambda: show_profile(found, plot))
