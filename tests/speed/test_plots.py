"""Plots of what was measured, from records made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatenorm.errors import OutputError
from gatenorm.records import Edits, ModelIdentity
from gatenorm.records.evidence import Measurement
from gatenorm.report.figures.speed import plot_profile, plot_speed

IDENTITY = ModelIdentity("made", "llama", 4, "0" * 64, {})


def record(tokens: int, batch: int, figures: dict[str, float]) -> Measurement:
    protocol: dict[str, Any] = {
        "engine": "transformers",
        "label": "made-2",
        "baseline": "made",
        "prompt_tokens": tokens,
        "batch": batch,
    }
    return Measurement(noun="speed", model=IDENTITY, edits=Edits(), figures=figures, protocol=protocol)


def speedups(value: float) -> dict[str, float]:
    found = {}
    for phase in ("prefill", "decode"):
        found |= {f"{phase}_speedup": value, f"{phase}_speedup_low": value - 0.1, f"{phase}_speedup_high": value + 0.1}
    return found | {"prefill_ideal": value + 0.2}


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_speed_by_length_for_every_batch(ending: str, tmp_path: Path):
    found = [record(tokens, batch, speedups(1 + tokens / 4096)) for tokens in (2048, 128) for batch in (1, 8)]
    out = tmp_path / f"speed.{ending}"
    plot_speed([record(128, 1, {}), *found], out)
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
    parts = {f"prefill_{part}_seconds": 0.5 for part in ("attention", "mlp", "outer")}
    out = tmp_path / "profile.png"
    plot_profile([record(tokens, batch, parts) for tokens in (64, 128) for batch in (1, 2)], out)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_is_one_line(tmp_path: Path):
    for draw, figures in ((plot_speed, {"prefill_seconds": 1.0}), (plot_profile, {})):
        with pytest.raises(OutputError) as raised:
            draw([record(64, 1, figures)], tmp_path / "speed.svg")
        assert (raised.value.code, raised.value.field) == ("nothing-to-draw", "plot")
    assert list(tmp_path.iterdir()) == []
