"""One mutant read within limits of time and memory, and what may come of it."""

from __future__ import annotations

import signal
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gatenorm.errors import GatenormError

# Seconds of processor time, and bytes: so many for each byte of the file, and for what every reader needs besides.
SECONDS = 5
TIMES, BESIDES = 50, 8 << 20
LONGEST_LINE = 2000


def outcome(read: Callable[[bytes], object], content: bytes) -> str:
    """``read`` or ``refused``.

    Raises:
        AssertionError: the error's line is none, or memory was taken beyond the limit.
        TimeoutError: it took too long.
        Exception: whatever the parser lets through that is not ours.
    """
    with _memory(len(content)), _time():
        try:
            read(content)
        except GatenormError as error:
            line = error.text()
            assert line.isprintable(), line
            assert len(line) < LONGEST_LINE, line
            return "refused"
    return "read"


@contextmanager
def _time() -> Iterator[None]:
    late = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal late
        late = True
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        if late:  # whatever the parser made of the interruption
            raise TimeoutError(f"more than {SECONDS} seconds")


@contextmanager
def _memory(size: int) -> Iterator[None]:
    """What is taken besides what was there; nothing is looked at where nobody traces it."""
    tracemalloc.reset_peak() if tracemalloc.is_tracing() else None
    began, _ = tracemalloc.get_traced_memory()
    yield
    _, peak = tracemalloc.get_traced_memory()
    assert peak - began <= TIMES * size + BESIDES, f"{peak - began:,} bytes for {size:,}"
