"""How much memory a process holds at most, and how much is left on this machine."""

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CGROUP = Path("/sys/fs/cgroup")
# Of control groups 2 and 1: limit, use, statistics, and the name of the page cache in these.
_LIMITS = (
    ("memory.max", "memory.current", "memory.stat", "file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "cache"),
)


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
    for limit, used, statistics, cached in _LIMITS:
        try:
            most = (_CGROUP / limit).read_text().strip()
            taken = int((_CGROUP / used).read_text())
            counts = dict(line.split() for line in (_CGROUP / statistics).read_text().splitlines())
            # Page cache counts as taken there, and is given back when memory is asked for.
            return None if most == "max" else int(most) - taken + int(counts.get(cached, 0))
        except (OSError, ValueError):
            continue
    return None
