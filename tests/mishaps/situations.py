"""What can happen to a command, each as a function that lets it happen once and says what was left."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.mishaps.commands import Series, ended

# Nobody can make a directory there, the superuser included.
NOWHERE = "/proc/nowhere"
LONGEST = 600
# Ray's workers; what else it calls so are parts of itself, without which there is no Ray any more.
_WORKERS = ("ray::_run", "ray::IDLE")
# Kilobytes of a disk that was full, once there is room again.
_ROOM = 1 << 17


def killed(series: Series, draw: random.Random) -> str:
    """SIGKILL at a random moment; the next run goes on in the same folder."""
    series.aged()
    before = series.measured()
    status = ended(series.start(), draw.random() * series.seconds)
    if not before.items() <= series.measured().items():
        return "a measurement was lost, or made again"
    if status is not None:
        assert status == 0, (status, series.said())
        series.renew()
        return "ended first"
    left = series.left()
    if left == "whole":
        series.renew()
    return left


def stopped(series: Series, draw: random.Random) -> str:
    """Ctrl-C or a polite request to stop: its status, nothing half written, whatever moment it was."""
    series.begin()
    before = series.measured()
    number = draw.choice((signal.SIGINT, signal.SIGTERM))
    process = series.start()
    status = ended(process, draw.random() * series.seconds, number)
    if status is not None:
        return "ended first"
    status = ended(process, LONGEST)
    if not before.items() <= series.measured().items():
        return "a measurement was lost, or made again"
    # Before the command line has begun, and after it has ended, the signal's own action is all there is.
    if status not in (0, 128 + number, -number) or series.partials():
        return f"ended with {status}, {[p.name for p in series.partials()]}: {series.said():.300}"
    return series.left()


def refused(series: Series, prepare: Callable[[], object]) -> str:
    """A run that may be refused, in one line and with nothing half written."""
    status = ended(series.start(prepare), LONGEST)
    said = series.said()
    if (status not in (0, 2) or (status == 2 and not _ends_with_an_error(said))) or series.partials():
        return f"ended with {status}, {[p.name for p in series.partials()]}: {said[-300:]}"
    return series.left()


def _ends_with_an_error(said: str) -> bool:
    """Whether one line says what went wrong, after whatever was said of the work."""
    lines = said.splitlines()
    of_errors = [line for line in lines if line.startswith("error: ")]
    return lines[-1:] == of_errors and "Traceback" not in said


def file_too_large(series: Series, draw: random.Random) -> str:
    """A limit on file sizes, which the kernel keeps to as it does with a full disk."""
    most = int(draw.random() * largest(series.wanted) * 1.1)

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    series.renew()
    return refused(series, prepare)


def disk_full(series: Series, draw: random.Random) -> str:
    """A small file system of its own in the place of the folder."""
    series.renew()
    size = int((0.05 + draw.random() * 1.5) * total(series.wanted)) // 4096 * 4 + 8
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "mishap", str(series.folder)], check=True)
    try:
        left = refused(series, lambda: None)
        if left != "whole":  # with room enough the same command goes on, or begins again
            subprocess.run(["mount", "-o", f"remount,size={size + _ROOM}k", str(series.folder)], check=True)
            series.finish()
        return left
    finally:
        subprocess.run(["umount", str(series.folder)], check=True)


def place_read_only(series: Series, draw: random.Random) -> str:
    """An output and a home where nothing can be written."""
    series.renew()
    status = ended(series.start_in(Path(NOWHERE), lambda: homeless(NOWHERE)), LONGEST)
    said = series.said()
    return "nothing" if status == 2 and _ends_with_an_error(said) else f"ended with {status}: {said[-300:]}"


def home_missing(series: Series, draw: random.Random) -> str:
    """No HOME, or one that is not there: nothing can be kept between runs, and the result is the same."""
    series.renew()
    home = draw.choice((None, NOWHERE))
    status = ended(series.start(lambda: homeless(home)), LONGEST)
    return series.left() if status == 0 else f"ended with {status}: {series.said()[-300:]}"


def homeless(home: str | None) -> None:
    for name in ("GATENORM_CACHE", "XDG_CACHE_HOME", "HF_HOME", "HOME"):
        os.environ.pop(name, None)
    if home:
        os.environ["HOME"] = home


def stdout_closed(series: Series, draw: random.Random) -> str:
    """A reader who goes away at once, or was never there."""
    series.renew()
    closed = draw.random() < 0.5

    def prepare() -> None:
        if closed:
            os.close(1)
            sys.stdout = None  # as Python has it then
            return
        reading, writing = os.pipe()
        os.dup2(writing, 1)
        os.close(reading)

    status = ended(series.start(prepare), LONGEST)
    return series.left() if status == 0 else f"ended with {status}: {series.said()[-300:]}"


def two_writers(series: Series, draw: random.Random) -> str:
    """Two of the same command, the second a moment later: one result that is whole."""
    series.renew()
    first = series.start()
    time.sleep(draw.random() * series.seconds)
    second = series.start()
    statuses = [ended(process, LONGEST) for process in (first, second)]
    if not {*statuses} <= {0, 2} or 0 not in statuses or series.partials():
        return f"ended with {statuses}, {[p.name for p in series.partials()]}: {series.said()[-300:]}"
    return series.left()


def source_changed(series: Series, draw: random.Random) -> str:
    """The model is overwritten in place at a random moment: refused, or made of one of both as a whole.

    Nothing of the other model is kept for the next run, which reads the first one again.
    """
    series.renew()
    source = Path(series.command.source(series.models))
    weights = source if source.is_file() else source / "model.safetensors"
    before, began = weights.read_bytes(), weights.stat()
    process = series.start()
    status = ended(process, draw.random() * series.seconds, signal.SIGCONT)  # which does nothing
    try:
        with weights.open("r+b") as file:  # the last tensors are other ones now
            file.seek(-len(before) // 3, os.SEEK_END)
            file.write(bytes(len(before) // 3))
        if status is None:
            status = ended(process, LONGEST)
        left = series.left()
        if (left.startswith("torn") or (left == "resumable" and series.command.audits)) and status == 0:
            fresh = series.folder.with_name("fresh")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            assert ended(series.start_in(fresh), LONGEST) == 0
            left = "of neither model" if series.differing(fresh / series.command.out) else "whole"
    finally:
        weights.write_bytes(before)
        os.utime(weights, ns=(began.st_atime_ns, began.st_mtime_ns))
    if status not in (0, 2) or series.partials():
        return f"ended with {status}, {[p.name for p in series.partials()]}: {series.said()[-300:]}"
    return left


def workers_killed(series: Series, draw: random.Random) -> str:
    """SIGKILL for one of Ray's workers, again and again: its job is done by another one, or the audit says so."""
    series.renew()
    process, until, killed = series.start(), time.monotonic() + LONGEST, 0
    status = None
    while status is None and time.monotonic() < until:
        status = ended(process, 0.2 + draw.random() * series.seconds / 4, signal.SIGCONT)  # which does nothing
        at_work = [one for one in _descendants(process) if one.name().startswith(_WORKERS)]
        if status is None and at_work:
            with suppress(psutil.NoSuchProcess):
                draw.choice(at_work).kill()
                killed += 1
    if not killed:
        return "ended first"
    lost = status == 2 and "a Ray worker was lost" in series.said() and _ends_with_an_error(series.said())
    quiet = "(raylet)" not in series.said()  # Ray has a stdout of its own, and it is not ours
    return series.left() if quiet and (status == 0 or lost) else f"ended with {status}: {series.said()[-300:]}"


def _descendants(process: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process).children(recursive=True)
    return []


def largest(path: Path) -> int:
    return max(p.stat().st_size for p in [path, *path.rglob("*")] if p.is_file())


def total(path: Path) -> int:
    return sum(p.stat().st_size for p in [path, *path.rglob("*")] if p.is_file())


SITUATIONS: dict[str, Callable[[Series, random.Random], str]] = {
    "kill -9": killed,
    "SIGINT, SIGTERM": stopped,
    "file too large": file_too_large,
    "disk full": disk_full,
    "target and home read-only": place_read_only,
    "no HOME": home_missing,
    "stdout closed": stdout_closed,
    "two writers": two_writers,
    "source overwritten": source_changed,
    "Ray workers killed": workers_killed,
}
