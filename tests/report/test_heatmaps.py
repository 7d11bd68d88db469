"""Heat maps of retrieval."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatenorm.errors import OutputError
from gatenorm.records import Edits, Evidence, ModelIdentity
from gatenorm.report.figures.heatmaps import plot_retrieval


def record(kind: str = "retrieval") -> Evidence:
    lengths, depths = [128, 256], [0.0, 0.5]
    figures = {f"choice_{n}_{d:g}": 0.25 for n in lengths for d in depths} | {"chance": 0.25}
    protocol = {"task": "one-hop", "lengths": lengths, "depths": depths}
    return Evidence(kind, ModelIdentity("m", "llama", 4, "c", {}), Edits(), figures, protocol, {}, 0.0)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_panel_for_each_record(ending: str, tmp_path: Path):
    path = tmp_path / f"a.{ending}"
    plot_retrieval([record(), record("perplexity"), record()], path)
    assert path.stat().st_size > 4000
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_cannot_be_drawn_is_said(tmp_path: Path):
    with pytest.raises(OutputError, match="must be one of"):
        plot_retrieval([record()], tmp_path / "a.html")
    with pytest.raises(OutputError, match="nothing to draw"):
        plot_retrieval([record("perplexity")], tmp_path / "a.png")
    with pytest.raises(OutputError, match="there is no folder"):
        plot_retrieval([record()], tmp_path / "none/a.png")
