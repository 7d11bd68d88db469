"""How long `gatenorm --help` takes, beside a Python that does nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def best(command: list[str], times: int = 15) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main() -> None:
    bare = best([sys.executable, "-c", "pass"])
    helped = best([str(Path(sys.executable).with_name("gatenorm")), "--help"])
    print(f"python -c pass {bare:.3f} s, gatenorm --help {helped:.3f} s ({helped / bare:.1f} times as long)")


if __name__ == "__main__":
    main()
