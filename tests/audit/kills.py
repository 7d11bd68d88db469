"""Kills audits at random moments: run as a program, so that forked children inherit one import of torch.

    python -m tests.audit.kills FOLDER KILLS SEED

Runs one audit undisturbed, kills another ``KILLS`` times by SIGKILL, lets it end, and prints what was found as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gatenorm.audit.run.main import run_audit
from tests.audit.audits import differences, figures, small

CONFIG = small(
    budgets={"shares": [0.125]},
    rankings={"criteria": ["gate-norm"], "length": 16},
    evaluation={"stories_limit": 1, "zeroshot_limit": 1, "refusal": "none", "retrieval": False},
    search={"gate": None},
)


def child(directory: Path) -> int:
    """The process number of an audit that has just begun."""
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        run_audit("demo", directory, CONFIG)
        status = 0
    finally:
        os._exit(status)


def ended(number: int, within: float) -> int | None:
    """The exit status of a child that ended in time, or ``None``: it was killed then."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    return None


def kept(directory: Path) -> dict[str, int]:
    """The measurements that lie there, with the time of each file."""
    return {p.name: p.stat().st_mtime_ns for p in (directory / "state" / "measured").glob("*.json")}


def main(folder: Path, kills: int, seed: int) -> None:
    """Print what happened."""
    import transformers

    from gatenorm.models.loading import load_tokenizer  # noqa: F401 - imported once, for all children

    transformers.utils.logging.disable_progress_bar()
    draw: Callable[[], float] = random.Random(seed).random
    whole, torn = folder / "whole", folder / "torn"
    began = time.monotonic()
    assert ended(child(whole), 600) == 0
    took = time.monotonic() - began
    killed = lost = changed = 0
    while killed < kills:
        before = kept(torn)
        # Later and later, so that every part of the audit is reached, the end as well.
        status = ended(child(torn), took * draw() * (0.2 + 0.8 * killed / kills))
        after = kept(torn)
        lost += len(before.keys() - after.keys())
        changed += sum(before[name] != after[name] for name in before.keys() & after.keys())
        if status is not None:
            assert status == 0, status
            break
        killed += 1
    assert ended(child(torn), 600) == 0
    left_over = [str(p) for p in torn.rglob("*partial*")]
    differing = differences(figures(whole), figures(torn))[:5]
    found = {"killed": killed, "lost": lost, "changed": changed, "differing": differing, "left_over": left_over}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
