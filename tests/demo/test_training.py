"""The training script on a tiny configuration: the loss falls, and a killed run goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/train_demo_model.py"
TINY = ["--steps=24", "--cooldown=8", "--rate=6e-3", "--every=8", "--layers=2", "--batch=4", "--short-steps=16"]


def start(out: Path) -> subprocess.Popen[str]:
    source = str(SCRIPT.parents[1] / "src")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(SCRIPT), *TINY, "--no-compile", "--device=cpu", "--out", str(out)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def test_training_lowers_the_loss_and_resumes_exactly_after_being_killed(tmp_path: Path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(whole))
    process = start(broken)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 8/"):  # Said after the checkpoint was written.
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not broken.exists()
    said = finish(start(broken))
    assert "taken up at step 8" in said or "taken up at step 16" in said
    assert "tokens/s" in said

    assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()
    first, second = (json.loads((out / "training.json").read_text()) for out in (whole, broken))
    assert len(first["curve"]) == 3
    for a, b in zip(first["curve"], second["curve"], strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}
    losses = [point["watched"] for point in first["curve"]]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 1
