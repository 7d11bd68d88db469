"""Commands that are killed, stopped and starved leave nothing, or a whole output, or what the next run goes on from.

``python -m tests.mishaps FOLDER`` lets it happen as often as one wants; this is the short form.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.mishaps.commands import COMMANDS
from tests.mishaps.situations import SITUATIONS

ROOT = Path(__file__).resolve().parents[1]
QUICK = ",".join(name for name, command in COMMANDS.items() if not command.resumes)
# Of a training and an audit those that take a run or two.
TRAINING = "kill -9;SIGINT, SIGTERM;file too large;disk full;target and home read-only;stdout closed"
AUDIT = "kill -9;disk full;target and home read-only;stdout closed;two writers;source overwritten"
RAY = "Ray workers killed"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
@pytest.mark.parametrize(
    ("commands", "kills", "others", "names"),
    [
        (QUICK, 4, 1, ";".join(SITUATIONS)),
        ("recover", 4, 1, TRAINING),
        ("audit", 2, 1, AUDIT),
        pytest.param("audit (Ray)", 0, 1, RAY, marks=pytest.mark.skipif(not find_spec("ray"), reason="needs ray")),
    ],
    ids=["quick commands", "recover", "audit", "audit with Ray"],
)
def test_after_a_mishap(commands: str, kills: int, others: int, names: str, tmp_path: Path):
    program = [sys.executable, "-m", "tests.mishaps", str(tmp_path / "work"), "--commands", commands]
    asked = ["--kills", str(kills), "--others", str(others), "--mishaps", names]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    answer = subprocess.run([*program, *asked], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if "ray_address cannot be reached" in answer.stderr:
        pytest.skip("Ray could not be started on this machine")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    first = names.split(";")[0]
    assert answer.stdout.count(f"| {first} |") == len(commands.split(","))
