"""How much memory a process holds at most, and how much is left on this machine."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CGROUP = Path("/sys/fs/cgroup")


def reset_peak() -> None:
    """Forget the largest size so far, where the system can (Linux); elsewhere the peak is that since the start."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """The largest resident size of this process since :func:`reset_peak`."""
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else 1024 * usage


def available_bytes() -> int | None:
    """Memory that can still be taken without swapping, within the limit of the container; ``None`` if unknown."""
    free = [room for room in (_of_machine(), _of_container()) if room is not None]
    return min(free, default=None)


def _of_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except OSError:
        return None
    return None


def _of_container() -> int | None:
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        # Page cache counts as used there, and is given back when memory is asked for.
        cached = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines()).get("file", 0)
        return None if limit == "max" else int(limit) - used + int(cached)
    except (OSError, ValueError):
        return None
