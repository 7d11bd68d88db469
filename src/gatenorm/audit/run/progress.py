"""What an audit tells while it works: events, for a terminal, for machines, or for nobody.

An event is plain data: ``event`` (``step``, ``work``, ``done``, ``finished``), ``step`` and ``of``, ``what``, and for
work the number ``done`` of ``all`` jobs known so far, ``reused`` ones among them, and ``seconds_left`` where enough
was measured to tell.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

Event = Mapping[str, Any]
Listener = Callable[[Event], None]


class Ledger:
    """How much work of which kind lies ahead, and how long its like has taken."""

    def __init__(self) -> None:
        self._ahead: dict[str, int] = defaultdict(int)
        self._took: dict[str, list[float]] = defaultdict(list)
        self.done = 0
        self.reused = 0

    def expect(self, like: str, count: int = 1) -> None:
        """So many more jobs of this kind will come."""
        self._ahead[like] += count

    def settle(self, like: str, seconds: float | None) -> None:
        """One of them is done, in so many seconds; ``None``: it had been measured before, or is not needed."""
        self._ahead[like] = max(0, self._ahead[like] - 1)
        self.done += 1
        if seconds is None:
            self.reused += 1
        else:
            self._took[like].append(seconds)

    @property
    def all(self) -> int:
        return self.done + sum(self._ahead.values())

    @property
    def seconds_left(self) -> float | None:
        """The mean of what its like took, for everything ahead; for kinds not met yet, the mean of all that were.

        ``None`` before anything was measured.
        """
        every = [seconds for took in self._took.values() for seconds in took]
        if not every:
            return None
        left = 0.0
        for like, count in self._ahead.items():
            took = self._took.get(like) or every
            left += count * sum(took) / len(took)
        return left


class Reporter:
    """Turns what happens into events for a listener; quiet without one."""

    def __init__(self, listener: Listener | None = None, steps: int = 7):
        self._listener = listener
        self._steps = steps
        self._step = 0
        self.ledger = Ledger()

    def step(self, number: int, name: str) -> None:
        """A step begins."""
        self._step = number
        self._tell("step", name)

    def work(self, title: str) -> None:
        """A job is taken up."""
        self._tell("work", title)

    def done(self, title: str, like: str, seconds: float | None) -> None:
        """A job is done, or was found done."""
        self.ledger.settle(like, seconds)
        self._tell("done", title, seconds=seconds, reused_this=seconds is None)

    def finished(self, verdict: Any, chosen: str | None, files: Any) -> None:
        """The audit is over."""
        self._tell("finished", "audit", verdict=list(verdict), chosen=chosen, files=list(files))

    def _tell(self, event: str, what: str, **more: Any) -> None:
        if self._listener is None:
            return
        left = self.ledger.seconds_left
        self._listener(
            {
                "event": event,
                "time": round(time.time(), 3),
                "step": self._step,
                "of": self._steps,
                "what": what,
                "done": self.ledger.done,
                "all": self.ledger.all,
                "reused": self.ledger.reused,
                "seconds_left": None if left is None else round(left, 1),
                **more,
            }
        )


def json_lines(event: Event) -> None:
    """An event as a line of JSON on stdout."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def in_words(event: Event) -> str:
    """An event as a line for people: step, what is at work, how much is done, how long it may take."""
    left = event["seconds_left"]
    rest = "" if left is None else f", about {_time(left)} left"
    return f"step {event['step']} of {event['of']}: {event['what']} ({event['done']} of {event['all']}{rest})"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
