"""The examples run, and print what their readers should see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_first_steps():
    said = subprocess.run(
        [sys.executable, EXAMPLES / "first_steps.py"], capture_output=True, text=True, check=True, cwd=EXAMPLES
    ).stdout
    assert "weakest attention sublayers first: 13 15 9" in said
    assert "removed: 9 13 15" in said
    assert said.count("perplexity") == 2
