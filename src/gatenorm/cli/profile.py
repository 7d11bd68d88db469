"""``gatenorm profile``: what attention and MLP take of time, weights, FLOPs and cache."""

from typing import Unpack

from gatenorm.cli import console
from gatenorm.cli.options import common, speed

NAME = "profile"
EXAMPLE = "Example: gatenorm profile ./llama --lengths 512,2048"


def command(
    *,
    model: common.Model,
    new_tokens: speed.NewTokens = 8,
    rounds: speed.Rounds = 3,
    attention: speed.Attention,
    json: common.Json,
    plot: common.Plot,
    **cases: Unpack[speed.Cases],
) -> None:
    """Show the time of attention and of MLP in MODEL by prompt length, and their shares of weights, FLOPs and cache."""
    from gatenorm import api
    from gatenorm.cli.tables.speed import show_profile

    console.quiet_transformers()
    with console.progress_bar("profiling", "runs") as progress:
        profiles = api.profile(
            model,
            new_tokens=new_tokens,
            rounds=rounds,
            attention=attention,
            progress=progress,
            **cases,
        )
    if plot:
        from gatenorm.report.figures.speed import plot_profile

        plot_profile(profiles, plot)
    console.deliver(json, profiles, lambda: show_profile(profiles, plot))
