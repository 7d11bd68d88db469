"""An audit that is killed at any moment goes on where it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_killed_at_random_moments_nothing_is_lost_and_nothing_is_measured_twice(tmp_path: Path):
    kills = int(os.environ.get("GATENORM_KILLS", "3"))
    program = [sys.executable, "-m", "tests.audit.kills", str(tmp_path), str(kills), "7"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    answer = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["killed"] >= 1
    assert (found["lost"], found["changed"], found["left_over"]) == (0, 0, [])
    assert found["differing"] == []
