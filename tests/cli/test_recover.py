"""``gatenorm recover``: what it says, what it refuses, and that the same command goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gatenorm
from gatenorm.cli import main
from tests.command_line import refused
from tests.recovery.conftest import Place, place  # noqa: F401 - a fixture

QUICK = ("--steps", 2, "--batch", 2, "--length", 32, "--rank", 2, "--watch-every", 1, "--watch-windows", 2)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_recovering_says_what_was_won_and_what_it_costs(
    place: Place,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    arguments = ("recover", place.pruned, "-o", tmp_path / "r", "--data", place.text, "--parent", place.dense, *QUICK)
    status, out, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    for said in (
        "held-out perplexity",
        "the parent (2 windows of 32 tokens)",
        "2 of 2 steps, 128 tokens",
        "licence",
        " trained parameters",
    ):
        assert said in out
    assert gatenorm.open_model(tmp_path / "r").recovered
    status, again, _ = run(capsys, *arguments)
    assert status == 0
    assert "is finished already" in again
    status, out, _ = run(capsys, *arguments, "--json", "-")
    assert json.loads(out)["evidence"]["schema"] == "gatenorm/recovery/2"


def test_a_study_is_shown_written_and_drawn(
    place: Place,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    arguments = ("recover", place.dense, "-o", tmp_path / "s", "--data", place.text, "--study", "25%,0.5", *QUICK)
    how = ("--criteria", "depth", "--limit", 1, "--plot", tmp_path / "s.svg", "--json", tmp_path / "s.json")
    status, out, err = run(capsys, *arguments, *how)
    assert (status, err) == (0, "")
    for said in ("dense", "depth", "won back", "within 10%", "protocol: perplexity on 2 windows of 32 tokens"):
        assert said in out
    assert len(json.loads((tmp_path / "s.json").read_text())["variants"]) == 2
    assert (tmp_path / "s.svg").stat().st_size > 5000


def test_bad_requests_are_one_line_and_status_2(
    place: Place,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    short = tmp_path / "short.txt"
    short.write_text("short")
    base = ("-o", tmp_path / "o", "--data", place.text)
    wrong: list[tuple[tuple[object, ...], str]] = [
        ((place.dense, *base), "not-pruned"),
        ((place.pruned, "-o", tmp_path / "o", "--data", short), "text-too-short data"),
        ((place.pruned, "-o", tmp_path / "o", "--data", "none.txt"), "data-missing data"),
        ((place.pruned, *base, "--objective", "distill"), "parent-missing parent"),
        ((place.pruned, *base, "--targets", "norms"), "targets-unknown targets"),
        ((place.pruned, *base, "--other", short), "study-missing other"),
        ((place.pruned, *base, "--task-data", short), "study-missing task_data"),
        ((place.pruned, *base, "--study", "50%"), "model-pruned model"),
        ((place.dense, *base, "--study", "half"), "option-value study"),
        (
            (place.dense, *base, "--study", "50%", "--plot", tmp_path / "a.bmp"),
            "plot-format-unknown plot",
        ),
        ((place.pruned, *base, "--device", "cuda:99"), "device-unusable device"),
        ((place.pruned, *base, "--rank", "0"), "rank-out-of-range rank"),
        ((place.pruned, *base, "--seed", "-1"), "seed-out-of-range seed"),
        ((place.pruned, *base, "--seed", 2**63), "seed-out-of-range seed"),
        ((place.pruned, *base, "--held-out", "none.txt"), "data-missing data"),
        ((place.dense, *base, "--study", "50%", "--other", "none.txt"), "data-missing data"),
        ((place.pruned, *base, *QUICK, "--steps", 1, "--learning-rate", "1e30"), "not-better"),
    ]
    for arguments, message in wrong:
        refused(capsys, message, "recover", *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["short.txt"]
