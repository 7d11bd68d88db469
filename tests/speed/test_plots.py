"""Plots of what was measured, from records made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from gatenorm.errors import OutputError
from gatenorm.records import ModelIdentity
from gatenorm.records.evidence import PhaseTime, Profile, ProfiledPhase, Speed, SpeedProtocol, Spread
from gatenorm.report.figures.speed import plot_profile, plot_speed

IDENTITY = ModelIdentity("made", "llama", 4, "0" * 64, {})


def speed(tokens: int, batch: int, speedup: float | None) -> Speed:
    at = SpeedProtocol(
        engine="transformers", label="made-2", baseline="made", prompt_tokens=tokens, batch=batch, new_tokens=8
    )
    if speedup is None:
        return Speed(model=IDENTITY, protocol=at)
    phase = PhaseTime(speedup=Spread(speedup, speedup - 0.1, speedup + 0.1))
    return Speed(model=IDENTITY, protocol=at, prefill=replace(phase, ideal=speedup + 0.2), decode=phase)


def profile(tokens: int, batch: int) -> Profile:
    phase = ProfiledPhase(
        attention_seconds=0.5,
        mlp_seconds=0.5,
        outer_seconds=0.5,
        attention_over_mlp=1.0,
        attention_flops_share=0.5,
        attention_by_layer=(0.5,),
        mlp_by_layer=(0.5,),
    )
    at = SpeedProtocol(prompt_tokens=tokens, batch=batch, new_tokens=8)
    return Profile(model=IDENTITY, protocol=at, prefill=phase, decode=phase)


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_speed_by_length_for_every_batch(ending: str, tmp_path: Path):
    found = [speed(tokens, batch, 1 + tokens / 4096) for tokens in (2048, 128) for batch in (1, 8)]
    out = tmp_path / f"speed.{ending}"
    plot_speed([speed(128, 1, None), *found], out)
    assert out.stat().st_size > 5000
    if ending == "html":
        text = out.read_text()
        for name in (
            "made-2, prefill",
            "made-2, decode, batch 8",
            "made-2, prefill, 2,048 tokens: 1.5",
            "dashed: ideal",
        ):
            assert name in text


def test_profiles_by_length(tmp_path: Path):
    out = tmp_path / "profile.png"
    plot_profile([profile(tokens, batch) for tokens in (64, 128) for batch in (1, 2)], out)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_is_one_line(tmp_path: Path):
    nothing = Profile(model=IDENTITY, protocol=SpeedProtocol(prompt_tokens=64, batch=1, new_tokens=8))
    for draw, records in ((plot_speed, [speed(64, 1, None)]), (plot_profile, [nothing])):
        with pytest.raises(OutputError) as raised:
            draw(records, tmp_path / "speed.svg")
        assert (raised.value.code, raised.value.field) == ("nothing-to-draw", "plot")
    assert list(tmp_path.iterdir()) == []
