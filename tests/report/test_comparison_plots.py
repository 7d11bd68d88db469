"""Plots of comparisons and curves: every format is written, whole, with its labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from gatenorm.analysis.agreement import agree
from gatenorm.analysis.comparison import Comparison
from gatenorm.analysis.curve import Curve, Line
from gatenorm.errors import OutputError
from gatenorm.records import LayerScore, ModelIdentity, Scores
from gatenorm.report.figures.agreement import plot_agreement
from gatenorm.report.figures.curve import plot_curve
from gatenorm.report.figures.heads import plot_heads
from gatenorm.report.figures.pareto import plot_pareto
from gatenorm.report.figures.selection import plot_selection

IDENTITY = ModelIdentity("a-model", "llama", 8, "0", {})
LAYERS = tuple(LayerScore(n, float(8 - n), (1.0 + n, 2.0)) for n in range(8) if n != 3)
SCORES = Scores(IDENTITY, "gate-norm-heads", LAYERS, 0.1, 10)
OTHER = structs.replace(SCORES, criterion="cosine", calibration={"source": "self"})
FLAT = structs.replace(SCORES, criterion="depth", layers=tuple(LayerScore(s.layer, 1.0) for s in LAYERS), ranking=())
COMPARISON = Comparison(
    IDENTITY, (SCORES, OTHER, FLAT), (agree(SCORES, OTHER), agree(SCORES, FLAT), agree(OTHER, FLAT)), ()
)
LINE = Line("gate-norm", {0: (), 1: (7,), 2: (7, 6)}, {0: 10.0, 1: 12.0, 2: float("inf")})
BAND = (Line("random 0", LINE.removed, {0: 10.0, 1: 20.0, 2: 50.0}),)
CURVE = Curve(IDENTITY, (LINE,), BAND, (), {}, {"name": "text.txt"}, 1.0)
SPEEDS = {
    f"{phase}_speedup{end}": {0: 1.0, 1: 1.1, 2: 1.2}
    for phase in ("prefill", "decode")
    for end in ("", "_low", "_high")
}
TIMED = replace(CURVE, lines=(replace(LINE, figures=SPEEDS),), measured={"latency": {"prompt_tokens": 512, "new": 32}})
TASKED = replace(TIMED, lines=(replace(LINE, figures={"accuracy": {0: 0.9, 1: 0.8, 2: 0.5}, **SPEEDS}),))
DRAW = {
    "selection": lambda path: plot_selection([SCORES, OTHER], path),
    "agreement": lambda path: plot_agreement(COMPARISON, path),
    "heads": lambda path: plot_heads(SCORES, path),
    "curve": lambda path: plot_curve(CURVE, path),
    "pareto": lambda path: plot_pareto(TASKED, path),
    "pareto-perplexity": lambda path: plot_pareto(TIMED, path),
}
LABELS = {
    "selection": ["a-model", "cosine@self", "layer (original number)", "kept at 50 %"],
    "agreement": ["a-model", "cosine@self", "+1.00"],
    "heads": ["a-model", "layer (original number)", "query head", "gate-norm-heads"],
    "curve": ["a-model", "gate-norm", "attention sublayers removed", "perplexity per token (log scale)"],
    "pareto": ["a-model", "gate-norm", "speed-up of prefill (512 tokens), times", "mean accuracy on the tasks"],
    "pareto-perplexity": ["a-model", "speed-up of decode (32 tokens), times", "perplexity on text.txt (log scale)"],
}


@pytest.mark.parametrize("name", DRAW)
@pytest.mark.parametrize("ending", [".png", ".svg", ".html"])
def test_every_plot_in_every_format(name: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import matplotlib as mpl

    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")  # text as text, so that it can be read here
    path = tmp_path / f"{name}{ending}"
    DRAW[name](path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if ending == ".png":
        assert path.read_bytes().startswith(b"\x89PNG")
        return
    drawn = path.read_text(encoding="utf-8")
    for label in LABELS[name] if ending == ".svg" else LABELS[name][:1]:
        assert label in drawn


def test_a_criterion_without_heads_has_no_heat_map(tmp_path: Path):
    with pytest.raises(OutputError, match="no values per head: score by gate-norm-heads"):
        plot_heads(FLAT, tmp_path / "heads.png")


def test_quality_against_speed_needs_speed(tmp_path: Path):
    with pytest.raises(OutputError, match="speed was not measured: give --latency TOKENS"):
        plot_pareto(CURVE, tmp_path / "pareto.png")
