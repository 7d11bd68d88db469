"""How work reports its progress: a function called with (done, total), in whatever unit the work counts."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Progress = Callable[[int, int], None]
# Opens a bar: called with what it is about and the unit, gives something that is entered for a progress function.
Bars = Callable[[str, str], AbstractContextManager[Progress]]


def no_bars(what: str, unit: str) -> AbstractContextManager[Progress]:
    """Where nobody watches."""
    return nullcontext(lambda done, total: None)


def part_of(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Progress of one of several calls that make up ``total``; ``before`` is what earlier calls have done."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)


def half_of(progress: Progress | None, second: bool = False) -> Progress | None:
    """Progress of work that is the first or the second half of a whole, whatever units either counts in."""
    if progress is None:
        return None
    return lambda done, total: progress(done + total * second, 2 * total)
