"""Counts are kept, and a run that was stopped goes on: no parser is tried for longer than was asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.fuzz.tally import Count, Tally

ROOT = Path(__file__).resolve().parents[2]


def test_counts_add_up_and_are_kept(tmp_path: Path):
    for guided, second in ((False, 7), (True, 4)):
        for count in (Count(1.5, 10, 3), Count(2.0, 5, 4, ["x"])):
            Tally.of(tmp_path, guided=guided).add("plan", count)
        assert Tally.of(tmp_path, guided=guided)["plan"] == Count(3.5, 15, second, ["x"])
    assert "| plan | 4 | 15 | 4 | 1 |" in Tally.of(tmp_path, guided=True).table(["plan", "scores"])
    assert Tally.of(None, guided=True)["plan"] == Count()


def test_a_run_goes_on_where_the_last_one_was(tmp_path: Path):
    def run(seconds: int) -> tuple[str, float]:
        program = [sys.executable, "-m", "tests.fuzz", "--only", "hub answer", "--keep", str(tmp_path)]
        answer = subprocess.run(
            [*program, "--seconds", str(seconds)], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
        )
        return answer.stdout, json.loads((tmp_path / "mutants.json").read_text())["hub answer"]["seconds"]

    table, seconds = run(1)
    assert 1 <= seconds < 2
    assert run(1) == (table, seconds)
    assert "| all | 1 |" in table
