"""Timings, speed-ups and profiles as tables."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from gatenorm.cli import console
from gatenorm.cli.tables import say_assumptions, table
from gatenorm.records.evidence.speed import Profile, Speed, Spread


def show_bench(timings: Sequence[Speed], plot: Path | None) -> None:
    """Times and sizes, speed-ups where there is a baseline, and what to know about them."""
    console.print_table(_times(timings), "peak memory", "cache", "first token, ms")
    compared = [timing for timing in timings if timing.compared]
    if compared:
        console.print_table(_ratios(compared), "predicted", "cache saved", "achieved / ideal")
    for timing in timings:
        if timing.skipped:
            console.say(f"skipped {timing.protocol.case} on {timing.protocol.label}: {timing.skipped}")
    if any(timing.prefill.ideal is not None for timing in timings):
        console.say("ideal: T / (T - attention + what replaces it), the speed-up if nothing else cost anything")
    spreads = [timing.prefill.seconds for timing in timings if timing.measured]
    restless = sum(spread is not None and spread.high > 1.5 * spread.low for spread in spreads)
    if restless:
        console.say(f"warning: prefill varied by half and more in {restless} of {len(timings)}: was the machine busy?")
    say_assumptions(timings)
    if plot:
        console.say(f"plot: {plot}")


def show_profile(profiles: Sequence[Profile], plot: Path | None) -> None:
    """The time of each part by length, and attention's share of weights and cache."""
    console.print_table(_profile_table(profiles), "rest, ms", "its FLOPs", "attention's time")
    for profile in profiles:
        if profile.skipped:
            console.say(f"skipped {profile.protocol.case}: {profile.skipped}")
    last = next((profile for profile in reversed(profiles) if profile.phases()), None)
    if last:
        console.say(
            f"attention holds {last.attention_weights_share:.1%} of the weights and all of the key/value cache "
            f"({console.bytes_for_people(last.cache_bytes or 0)} at the last length and batch)"
        )
    console.say("attention / MLP: mean attention sublayer over mean MLP, each with its norm and residual add")
    say_assumptions(profiles)
    if plot:
        console.say(f"plot: {plot}")


def _times(timings: Sequence[Speed]) -> Table:
    protocol = timings[0].protocol
    title = f"{protocol.engine}, {protocol.dtype}, {protocol.device}, {protocol.threads} threads"
    figures = (">prefill, ms", ">first token, ms", ">decode, tokens/s", ">cache", ">peak memory")
    spread = f"medians of {protocol.rounds} rounds (smallest to largest)"
    rows = table(f"{title}: {spread}", ">tokens x batch", "model", *figures)
    for timing in timings:
        cells = ["skipped", "", "", "", ""]
        first = timing.first_token.seconds
        if timing.measured and first:
            sizes = (timing.cache_bytes, timing.peak_bytes)
            cells = [
                _with_spread(timing.prefill.seconds, scale=1000),
                f"{1000 * first.median:,.4g}",
                _with_spread(timing.decode_tokens_per_second),
                *("unknown" if size is None else console.bytes_for_people(size) for size in sizes),
            ]
        rows.add_row(timing.protocol.case, timing.protocol.label, *cells)
    return rows


def _ratios(compared: Sequence[Speed]) -> Table:
    figures = (">speed-up", ">ideal", ">achieved / ideal", ">predicted", ">cache saved")
    title = f"against {compared[0].protocol.baseline}, round by round"
    rows = table(title, ">tokens x batch", "model", "phase", *figures)
    for timing in compared:
        saved = timing.cache_share_removed
        for name in ("prefill", "decode"):
            phase, first = timing.phase(name), name == "prefill"
            ratios = ((phase.ideal, "x"), (phase.achieved, ""), (phase.predicted, "x"))
            rows.add_row(
                timing.protocol.case if first else "",
                timing.protocol.label if first else "",
                name,
                _with_spread(phase.speedup, "x"),
                *("" if value is None else f"{value:.2f}{unit}" for value, unit in ratios),
                f"{saved:.1%}" if first and saved is not None else "",
            )
    return rows


def _with_spread(spread: Spread | None, unit: str = "", scale: float = 1) -> str:
    assert spread is not None  # of what was measured
    middle, low, high = (_short(value * scale) for value in (spread.median, spread.low, spread.high))
    return f"{middle}{unit} ({low} to {high})"


def _short(value: float) -> str:
    """Three digits that count, without exponents: ``0.0123``, ``1.23``, ``12,345``."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _profile_table(profiles: Sequence[Profile]) -> Table:
    protocol = profiles[0].protocol
    title = (
        f"{profiles[0].model.name}: {protocol.engine}, {protocol.dtype}, {protocol.device}, "
        f"{protocol.threads} threads, medians of {protocol.rounds} runs"
    )
    parts = (">total, ms", ">attention, ms", ">MLP, ms", ">rest, ms")
    rows = table(title, ">tokens x batch", "phase", *parts, ">attention / MLP", ">attention's time", ">its FLOPs")
    for profile in profiles:
        for name, phase in profile.phases().items():
            steps = 1 if name == "prefill" else profile.protocol.new_tokens
            seconds = (phase.total_seconds, phase.attention_seconds, phase.mlp_seconds, phase.outer_seconds)
            rows.add_row(
                profile.protocol.case if name == "prefill" else "",
                name if name == "prefill" else "one token",
                *(f"{part / steps * 1000:,.2f}" for part in seconds),
                f"{phase.attention_over_mlp:.2f}",
                f"{phase.attention_share:.1%}",
                f"{phase.attention_flops_share:.1%}",
            )
    return rows
