"""Memory of this process and of this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gatenorm.models import memory


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_a_peak_is_that_since_it_was_reset():
    """In a process of its own: one that has run other tests may keep what is freed."""
    asked = """
import numpy as np
from gatenorm.models import memory

large = np.ones(64 << 20, np.uint8)
high = memory.peak_bytes()
del large
memory.reset_peak()
print(high, memory.peak_bytes())
"""
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    high, after = map(int, said.split())
    assert after < high - (32 << 20)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_may_have_less_than_the_machine(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = {
        1: ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "cache 300"),
        2: ("memory.max", "memory.current", "memory.stat", "anon 1\nfile 300"),
    }[version]
    (tmp_path / "memory").mkdir()
    for name, text in zip(names[:3], ("2000", "1500", names[3]), strict=True):
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available_bytes() == 800
    (tmp_path / names[0]).write_text("max\n" if version == 2 else f"{2**63 - 4096}\n")
    free = memory.available_bytes()
    assert free is None or 800 < free < 2**50
