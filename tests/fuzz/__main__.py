"""Tries mutants of every parser's sound inputs for a while, and counts them.

    python -m tests.fuzz --seconds 60
    python -m tests.fuzz --seconds 60 --guided     # by coverage: pip install 'atheris>=3.0'
    python -m tests.fuzz --seconds 600 --guided --keep work/fuzz     # stopped at any time, it goes on from there

Prints a table. What is neither read nor refused, takes more than 5 seconds or too much memory is a finding, which is
printed with its input and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
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
from tests.fuzz.tally import Count, Tally

if TYPE_CHECKING:
    from tests.fuzz.parser import Parser

# Bytes of an input that coverage leads to; seconds of a turn, after which the next parser has its own.
_LONGEST, _TURN = 1 << 16, 20
# Of one parser: there is something to mend.
_ENOUGH = 5


def tried(parser: Parser, seconds: float, seed: str) -> Count:
    """Mutants for so many seconds of processor time."""
    from tests.fuzz.running import outcome

    # Chat templates are tried in processes of their own, whose time is not this one's.
    clock = time.monotonic if parser.slow else time.process_time
    began, draw = clock(), random.Random(f"{seed} {parser.name}")
    counts, findings = {"read": 0, "refused": 0}, []
    tracemalloc.start()
    while clock() < began + seconds and len(findings) < _ENOUGH:
        content = mutant(draw.choice(parser.samples), parser.form, draw)
        try:
            counts[outcome(parser.read, content)] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            findings.append(f"{type(error).__name__}: {error!s:.300} of {content!r:.3000}")
    tracemalloc.stop()
    return Count(clock() - began, counts["read"], counts["refused"], findings)


def guided(parser: Parser, seconds: float, folder: Path) -> Count:
    """What libFuzzer tries in so many seconds of processor time; ``folder`` keeps the inputs that reached new code."""
    import atheris

    from tests.fuzz.running import outcome

    corpus, log = folder / "corpus", folder / "log"
    corpus.mkdir(parents=True, exist_ok=True)
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

    tries, clock = 0, time.monotonic if parser.slow else time.process_time
    tried_last = mmap.mmap(-1, 8 + _LONGEST)  # of parent and child: what ends the child cannot be asked afterwards

    def once(data: bytes) -> None:
        nonlocal tries
        tries += 1
        if clock() > until:  # libFuzzer knows the time by the clock alone, and a busy machine leaves little of that
            os.write(2, f"tried {tries}\n".encode())
            os._exit(0)
        tried_last[: 8 + len(data)] = len(data).to_bytes(8, "little") + data
        outcome(parser.read, data)

    child = os.fork()
    if not child:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(target, 1)
        os.dup2(target, 2)
        limits = ("-timeout=300", "-rss_limit_mb=3000", f"-max_len={_LONGEST}")
        until = clock() + seconds
        try:
            options = ["fuzz", *limits, f"-artifact_prefix={folder}/", str(corpus)]
            atheris.Setup(options, once, custom_mutator=change)
            atheris.Fuzz()
        finally:  # which is not reached but by an error: the folder is the parent's
            traceback.print_exc()
            os._exit(1)
    _, status, used = os.wait4(child, 0)
    said = log.read_text(errors="replace")
    runs = re.search(r"^tried (\d+)$", said, re.MULTILINE)
    findings = []
    if status != 0:
        content = tried_last[8 : 8 + int.from_bytes(tried_last[:8], "little")]
        (folder / f"finding-{hashlib.sha256(content).hexdigest()[:16]}").write_bytes(content)
        code = os.waitstatus_to_exitcode(status)
        findings.append(f"exit status {code} of {content!r:.3000}: {said[-3000:]}")
    reached = len(list(corpus.iterdir())) - len(parser.samples)
    return Count(used.ru_utime + used.ru_stime, int(runs[1]) if runs else 0, reached, findings)


def main() -> int:
    """Print a line for each parser; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="for each parser, of processor time")
    parser.add_argument("--only", default="", help="names, with semicolons between them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true")
    parser.add_argument("--keep", type=Path, help="where inputs and counts are kept, from which the next run goes on")
    given = parser.parse_args()
    if given.guided:
        import atheris

        with atheris.instrument_imports(include=["gatenorm"]):
            from tests.fuzz.parsers import Place
    else:
        from tests.fuzz.parsers import Place

    with tempfile.TemporaryDirectory() as temporary:
        tally = Tally.of(given.keep, guided=given.guided)
        parsers = [p for p in Place(Path(temporary)).parsers() if not given.only or p.name in given.only.split(";")]
        turns = [p for p in parsers if given.seconds]
        while turns:  # each in its turn, so that whoever stops it has tried all of them alike
            for one in list(turns):
                before, found = tally[one.name], (given.keep or Path(temporary)) / re.sub(r"\W", "-", one.name)
                left = min(_TURN, given.seconds - before.seconds)
                if left < 1 or len(before.findings) >= _ENOUGH:
                    turns.remove(one)
                    continue
                count = guided(one, left, found) if given.guided else tried(one, left, f"{given.seed} {before.first}")
                tally.add(one.name, count)
                for finding in count.findings:
                    sys.stderr.write(f"{one.name}: {finding}\n")
        sys.stdout.write(tally.table([p.name for p in parsers]))
        return 1 if any(tally[p.name].findings for p in parsers) else 0


if __name__ == "__main__":
    sys.exit(main())
