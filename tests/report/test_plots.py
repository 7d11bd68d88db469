"""Plots: the files are what they claim, and show every layer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatenorm.errors import OutputError
from gatenorm.records import LayerScore, ModelIdentity, Scores
from gatenorm.report.figures.plots import plot_scores

SCORES = Scores(
    model=ModelIdentity("a-model", "llama", 12, "0" * 64, {"model.safetensors": 1}),
    criterion="gate-norm",
    layers=tuple(LayerScore(i, 20.0 - i if i < 9 else 2.0) for i in range(12)),
    seconds=1.0,
    bytes_read=1,
)


def test_png_and_svg(tmp_path: Path):
    plot_scores(SCORES, tmp_path / "scores.png", marked=(9, 10, 11))
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
    plot_scores(SCORES, tmp_path / "scores.svg", marked=(9, 10, 11))
    drawing = (tmp_path / "scores.svg").read_text()
    assert drawing.count("fill: #0072b2") == 9
    assert drawing.count("fill: url(#") == 4  # three hatched bars and the legend
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores.png", "scores.svg"]


def test_the_page_needs_no_network(tmp_path: Path):
    plot_scores(SCORES, tmp_path / "scores.html", marked=(9,))
    page = (tmp_path / "scores.html").read_text(encoding="utf-8")
    assert not re.search(r'<(script|link)[^>]*(src|href)="https?://', page)
    assert "a-model: gate-norm by layer" in page
    assert "weak late cluster" in page


def test_a_folder_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(OutputError, match="there is no folder"):
        plot_scores(SCORES, tmp_path / "none" / "scores.png")
