"""Lets mishaps happen to commands, and counts what was left: nothing, a whole output, or what a next run goes on from.

    python -m tests.mishaps FOLDER --kills 100 --others 20

Prints a table; anything else that was left is a finding, which is printed and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.mishaps.commands import COMMANDS, Models, Series
from tests.mishaps.situations import SITUATIONS, killed, source_changed, stopped, workers_killed

FINE = ("nothing", "whole", "resumable")


def times(name: str, series: Series, kills: int, others: int) -> int:
    """How often a mishap happens to a command: half as often, or a quarter, where the command takes long."""
    slow = series.command.resumes
    if series.command.workers != (SITUATIONS[name] is workers_killed) or (name == "disk full" and not _can_mount()):
        return 0
    if series.command.judges and SITUATIONS[name] is source_changed:
        return 0
    wanted, share = (kills, 2) if name == "kill -9" else (others, 4)
    return -(-wanted // share) if slow else wanted


def _can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(["mount", "-t", "tmpfs", "mishap", folder], capture_output=True, check=False)
        if tried.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return tried.returncode == 0


def rows(series: Series, seed: int, kills: int, others: int, names: list[str]) -> Iterator[tuple[str, Counter[str]]]:
    """For each mishap how often what was left, findings under their own words."""
    for name in names:
        wanted = times(name, series, kills, others)
        if not wanted:
            continue
        draw, found = random.Random(f"{seed} {series.command.name} {name}"), Counter[str]()
        series.renew()
        while found.total() - found["ended first"] < wanted and found["ended first"] < 20 + 3 * wanted:
            found[SITUATIONS[name](series, draw)] += 1
            if series.command.resumes and SITUATIONS[name] not in (killed, stopped) and series.left() == "resumable":
                series.finish()
        if SITUATIONS[name] in (killed, stopped) and series.left() != "whole":
            series.finish()
        found.update(series.wrong)
        series.wrong.clear()
        yield name, found


def main() -> int:
    """Print a line for each command and mishap; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--others", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--mishaps", default=";".join(SITUATIONS))
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    models, findings = Models(given.folder), 0
    sys.stdout.write(
        "| command | mishap | times | nothing | whole | resumable | findings |\n|---|---|---|---|---|---|---|\n"
    )
    for command in given.commands.split(","):
        series = Series.begun(COMMANDS[command], models, given.folder)
        for name, found in rows(series, given.seed, given.kills, given.others, given.mishaps.split(";")):
            found.pop("ended first", None)
            wrong = {what: count for what, count in found.items() if what not in FINE}
            findings += sum(wrong.values())
            counts = " | ".join(str(found[what]) for what in FINE)
            sys.stdout.write(f"| {command} | {name} | {found.total()} | {counts} | {sum(wrong.values())} |\n")
            for what, count in wrong.items():
                sys.stderr.write(f"{command}, {name}, {count} times: {what}\n")
            sys.stdout.flush()
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
