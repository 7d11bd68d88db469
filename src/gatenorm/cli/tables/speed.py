"""Timings, speed-ups and profiles as tables."""

from __future__ import annotations

from typing import Any

from gatenorm.cli import console
from gatenorm.cli.tables import table


def show_bench(found: list[Any], plot: Any) -> None:
    """Times and sizes, speed-ups where there is a baseline, and what to know about them."""
    for made in _bench_tables(found):
        console.print_table(made)
    _bench_remarks(found)
    if plot:
        console.say(f"plot: {plot}")


def show_profile(found: list[Any], plot: Any) -> None:
    """The time of each part by length, and attention's share of weights and cache."""
    console.print_table(_profile_table(found))
    _profile_remarks(found)
    if plot:
        console.say(f"plot: {plot}")


def _bench_tables(found: list[Any]) -> list[Any]:
    """A table of times and sizes, and one of speed-ups where there is a baseline."""
    protocol = found[0].protocol
    title = f"{protocol.engine}, {protocol.dtype}, {protocol.device}, {protocol.threads} threads"
    columns = (
        ">tokens x batch",
        "model",
        ">prefill, ms",
        ">first token, ms",
        ">decode, tokens/s",
        ">cache",
        ">peak memory",
    )
    times = table(f"{title}: medians of {protocol.rounds} rounds (smallest to largest)", *columns)
    for timing in found:
        row = [timing.protocol.case, timing.protocol.label]
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
    columns = (
        ">tokens x batch",
        "model",
        "phase",
        ">speed-up",
        ">ideal",
        ">achieved / ideal",
        ">predicted",
        ">cache saved",
    )
    made = table(f"against {compared[0].protocol.baseline}, round by round", *columns)
    for timing in compared:
        saved = timing.cache_share_removed
        for name in ("prefill", "decode"):
            phase, first = timing.phase(name), name == "prefill"
            made.add_row(
                timing.protocol.case if first else "",
                timing.protocol.label if first else "",
                name,
                _with_spread(phase.speedup, "x"),
                *(
                    "" if value is None else f"{value:.2f}{unit}"
                    for value, unit in ((phase.ideal, "x"), (phase.achieved, ""), (phase.predicted, "x"))
                ),
                f"{saved:.1%}" if first and saved is not None else "",
            )
    return made


def _with_spread(spread: Any, unit: str = "", scale: float = 1) -> str:
    middle, low, high = (_short(value * scale) for value in (spread.median, spread.low, spread.high))
    return f"{middle}{unit} ({low} to {high})"


def _short(value: float) -> str:
    """Three digits that count, without exponents: ``0.0123``, ``1.23``, ``12,345``."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _bench_remarks(found: list[Any]) -> None:
    for timing in found:
        if timing.skipped:
            console.say(f"skipped {timing.protocol.case} on {timing.protocol.label}: {timing.skipped}")
    if any(timing.prefill.ideal is not None for timing in found):
        console.say("ideal: T / (T - the removed layers' attention), the speed-up if nothing else cost anything")
    spreads = [timing.prefill.seconds for timing in found if timing.measured]
    restless = sum(spread.high > 1.5 * spread.low for spread in spreads)
    if restless:
        console.say(f"warning: prefill varied by half and more in {restless} of {len(found)}: was the machine busy?")


def _profile_table(found: list[Any]) -> Any:
    protocol = found[0].protocol
    title = (
        f"{found[0].model.name}: {protocol.engine}, {protocol.dtype}, {protocol.device}, "
        f"{protocol.threads} threads, medians of {protocol.rounds} runs"
    )
    parts = (">total, ms", ">attention, ms", ">MLP, ms", ">rest, ms")
    made = table(title, ">tokens x batch", "phase", *parts, ">attention / MLP", ">attention's time", ">its FLOPs")
    for profile in found:
        for name, phase in profile.phases().items():
            steps = 1 if name == "prefill" else profile.protocol.new_tokens
            seconds = (phase.total_seconds, phase.attention_seconds, phase.mlp_seconds, phase.outer_seconds)
            made.add_row(
                profile.protocol.case if name == "prefill" else "",
                name if name == "prefill" else "one token",
                *(f"{part / steps * 1000:,.2f}" for part in seconds),
                f"{phase.attention_over_mlp:.2f}",
                f"{phase.attention_share:.1%}",
                f"{phase.attention_flops_share:.1%}",
            )
    return made


def _profile_remarks(found: list[Any]) -> None:
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
