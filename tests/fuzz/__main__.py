"""Tries mutants of every parser's sound inputs for a while, and counts them.

    python -m tests.fuzz --seconds 60
    python -m tests.fuzz --seconds 60 --guided     # by coverage: pip install 'atheris>=3.0'

Prints a table. What is neither read nor refused, takes more than 5 seconds or too much memory is a finding, which is
printed with its input and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import tempfile
import time
import traceback
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

from yaml import YAMLError

from tests.fuzz.mutants import mutant

if TYPE_CHECKING:
    from tests.fuzz.parsers import Parser

# Bytes of an input that coverage leads to.
_LONGEST = 1 << 16


def tried(parser: Parser, seconds: float, seed: int) -> tuple[dict[str, int], list[str]]:
    """How many mutants were read and refused in so many seconds of processor time, and what else happened."""
    from tests.fuzz.running import outcome

    # Chat templates are tried in processes of their own, whose time is not this one's.
    clock = time.monotonic if parser.slow else time.process_time
    draw, until = random.Random(f"{seed} {parser.name}"), clock() + seconds
    counts, findings = {"read": 0, "refused": 0}, []
    tracemalloc.start()
    while clock() < until and len(findings) < 5:
        content = mutant(draw.choice(parser.samples), parser.form, draw)
        try:
            counts[outcome(parser.read, content)] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            findings.append(f"{type(error).__name__}: {error!s:.300} of {content!r:.3000}")
    tracemalloc.stop()
    return counts, findings


def guided(parser: Parser, seconds: float, folder: Path) -> tuple[int, int, list[str]]:
    """How many inputs libFuzzer tried, how many of them reached new code, and what else happened."""
    import atheris

    from tests.fuzz.running import outcome

    corpus, log = folder / "corpus", folder / "log"
    corpus.mkdir(parents=True)
    for number, sample in enumerate(parser.samples):
        (corpus / f"sample{number}").write_bytes(sample)

    def change(data: bytes, longest: int, seed: int) -> bytes:
        draw = random.Random(seed)
        if draw.randrange(2):
            return bytes(atheris.Mutate(data, longest))
        try:
            return mutant(data, parser.form, draw)[:longest]
        except (ValueError, RecursionError, YAMLError):  # it is no JSON or YAML by now
            return mutant(draw.choice(parser.samples), parser.form, draw)[:longest]

    child = os.fork()
    if not child:
        target = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(target, 1)
        os.dup2(target, 2)
        limits = (f"-max_total_time={seconds:.0f}", "-timeout=30", "-rss_limit_mb=3000", f"-max_len={_LONGEST}")
        options = ["fuzz", *limits, "-print_final_stats=1", f"-artifact_prefix={folder}/", str(corpus)]
        try:
            atheris.Setup(options, lambda data: outcome(parser.read, data), custom_mutator=change)
            atheris.Fuzz()
        finally:  # which is not reached but by an error: the folder is the parent's
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    said = log.read_text(errors="replace")
    runs = re.search(r"number_of_executed_units: (\d+)", said)
    findings = [] if status == 0 else [f"exit status {os.waitstatus_to_exitcode(status)}: {said[-3000:]}"]
    return int(runs[1]) if runs else 0, len(list(corpus.iterdir())) - len(parser.samples), findings


def main() -> int:
    """Print a line for each parser; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="for each parser")
    parser.add_argument("--only", default="", help="names, with semicolons between them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true")
    given = parser.parse_args()
    if given.guided:
        import atheris

        with atheris.instrument_imports(include=["gatenorm"]):
            from tests.fuzz.parsers import Place
    else:
        from tests.fuzz.parsers import Place

    found = 0
    columns = ("inputs", "that reached new code") if given.guided else ("read", "refused")
    sys.stdout.write(f"| parser | {columns[0]} | {columns[1]} | findings |\n|---|---|---|---|\n")
    with tempfile.TemporaryDirectory() as folder:
        for one in Place(Path(folder)).parsers():
            if given.only and one.name not in given.only.split(";"):
                continue
            if given.guided:
                *counts, findings = guided(one, given.seconds, Path(folder) / "guided" / re.sub(r"\W", "-", one.name))
            else:
                by_outcome, findings = tried(one, given.seconds, given.seed)
                counts = [*by_outcome.values()]
            found += len(findings)
            sys.stdout.write(f"| {one.name} | {counts[0]:,} | {counts[1]:,} | {len(findings)} |\n")
            sys.stdout.flush()
            for finding in findings:
                sys.stderr.write(f"{one.name}: {finding}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
