"""Training in two processes on this machine, as a launcher starts them: the same as in one with twice the batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gatenorm
from gatenorm.errors import RecoveryError
from gatenorm.recovery import corpus
from gatenorm.recovery.processes import Processes
from tests.errors import refused
from tests.recovery.conftest import SETTINGS, Place


def test_two_processes_compute_what_one_does(place: Place, tmp_path: Path):
    options = ["--steps", 6, "--batch", 2, "--length", 32, "--rank", 4, "--alpha", 8, "--learning-rate", 1e-2]
    options += ["--watch-every", 2, "--watch-windows", 4]
    recover = ["recover", place.pruned, "-o", tmp_path / "two", "--data", place.text, "--parent", place.dense]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]
    command += [Path(sys.executable).with_name("gatenorm"), *recover, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("6 of 6 steps, 768 tokens") == 1  # one of them speaks
    both = json.loads((tmp_path / "two" / "recovery.json").read_text())
    settings = replace(SETTINGS, accumulation=2)
    gatenorm.recover(place.pruned, tmp_path / "one", str(place.text), settings=settings, parent=place.dense)
    alone = json.loads((tmp_path / "one" / "recovery.json").read_text())
    assert (both["evidence"]["protocol"]["processes"], alone["evidence"]["protocol"]["processes"]) == (2, 1)
    assert [look["step"] for look in both["history"]] == [0, 2, 4, 6]
    for ours, theirs in zip(both["history"], alone["history"], strict=True):
        assert ours["held_out"] == pytest.approx(theirs["held_out"], rel=1e-5)
    assert both["evidence"]["tokens"] == alone["evidence"]["tokens"]


def test_so_much_of_a_data_set_is_read_as_all_processes_use(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[int] = []

    def read(source: str, *arguments: Any, processes: int, called: str) -> Any:
        asked.append(processes)
        raise RecoveryError("read", "", given=source)

    monkeypatch.setattr(corpus, "read", read)
    monkeypatch.setattr(Processes, "here", lambda device: Processes(3, 1, device))
    with refused("read", kind=RecoveryError) as caught:
        gatenorm.recover(place.pruned, tmp_path / "r", "hub:a", settings=SETTINGS)
    assert caught.value.given == "hub:a"
    assert asked == [3]
