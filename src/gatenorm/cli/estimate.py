"""How long a piece of work will take, told once from its own first part."""

from __future__ import annotations

import time
from collections.abc import Callable

from gatenorm.records.numbers import bytes_for_people, duration

# Seconds, and the share of the work, that a rate is measured over; and what is too short to be told.
_MEASURED, _SHARE, _SHORT = 5.0, 0.02, 60.0


class Estimate:
    """Of one piece of work, driven by ``(done, total)`` as a bar is.

    The first report starts the clock, not the first call: models load before it, and first passes are slow.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic):
        self._what, self._clock = what, clock
        self._first: tuple[float, int] | None = None
        self._told = False

    def line(self, done: int, total: int) -> str:
        """A sentence, once the rate is known and if more than a minute is left; else empty."""
        if self._told or not total or done >= total:
            return ""
        now = self._clock()
        if self._first is None:
            self._first = now, done
            return ""
        began, before = self._first
        if now - began < _MEASURED or done - before < _SHARE * total:
            return ""
        self._told = True
        left = (total - done) * (now - began) / (done - before)
        if left < _SHORT:
            return ""
        from gatenorm.models.memory import peak_bytes  # help stays quick without it

        return f"{self._what}: about {duration(left)} more; {bytes_for_people(peak_bytes())} of memory so far"
