"""Commands that meet a package of a test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin.installed import SERVER, Installed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    if not hasattr(os, "fork"):
        pytest.skip("children are forked")
    program = [sys.executable, "-c", SERVER]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield process


@pytest.fixture
def installed(tmp_path: Path, server: subprocess.Popen[str]) -> Installed:
    return Installed(tmp_path / "installed", server)
