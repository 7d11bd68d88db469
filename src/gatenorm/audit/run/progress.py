"""What an audit reports while it works: events, for a terminal, for machines, or for nobody."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from gatenorm.records.audit import StepName
from gatenorm.records.numbers import duration
from gatenorm.records.serialization import Value, to_json


class Event(Value, frozen=True, kw_only=True, tag_field="event"):
    """Something happened in step ``step`` of ``of``, at ``time`` in seconds since the epoch; ``what`` is for people.

    ``done`` of ``all`` jobs known so far are done, ``reused`` ones among them; ``seconds_left`` is ``None`` where
    too little was measured to tell, and ``at_least`` so much where jobs of a kind lie ahead that none was timed of.
    """

    time: float
    step: int
    of: int
    what: str
    done: int
    all: int
    reused: int
    seconds_left: float | None
    at_least: bool = False

    def words(self) -> str:
        """A line for people: step, what is at work, how much is done, how long it may take."""
        about = "at least" if self.at_least else "about"
        left = "" if not self.seconds_left else f", {about} {duration(self.seconds_left)} left"
        return f"step {self.step} of {self.of}: {self.what} ({self.done} of {self.all}{left})"


class Planned(Event, frozen=True, tag="plan"):
    """Nothing has begun; what lies ahead, a line for each part of it."""

    lines: tuple[str, ...]


class StepBegan(Event, frozen=True, tag="step"):
    """A step begins."""


class WorkBegan(Event, frozen=True, tag="work"):
    """A job is taken up."""


class JobDone(Event, frozen=True, tag="done"):
    """A job is done in so many seconds, or (``reused_this``) was done before."""

    seconds: float | None
    reused_this: bool


class Finished(Event, frozen=True, tag="finished"):
    """The audit is over."""

    verdict: tuple[str, ...]
    chosen: str | None
    files: tuple[str, ...]


Listener = Callable[[Event], None]


class Ledger:
    """How many jobs of which kind lie ahead, and how long others like them took."""

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
    def at_least(self) -> bool:
        """Whether jobs of a kind lie ahead that none was timed of."""
        return any(count and like not in self._took for like, count in self._ahead.items())

    @property
    def seconds_left(self) -> float | None:
        """The mean time of jobs of its kind, for every job ahead; for kinds not met yet, the mean of all.

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

    def __init__(self, listener: Listener | None = None):
        self._listener = listener
        self._step = 0
        self.ledger = Ledger()

    def plan(self, lines: Sequence[str]) -> None:
        """What will be done, before anything is."""
        self._report(Planned, "plan", lines=tuple(lines))

    def step(self, name: StepName) -> None:
        """A step begins."""
        self._step = name.number
        self._report(StepBegan, name)

    def work(self, title: str) -> None:
        """A job is taken up."""
        self._report(WorkBegan, title)

    def done(self, title: str, like: str, seconds: float | None) -> None:
        """A job is done, or (``None``) was done before."""
        self.ledger.settle(like, seconds)
        self._report(JobDone, title, seconds=seconds, reused_this=seconds is None)

    def finished(self, verdict: Sequence[str], chosen: str | None, files: Sequence[str]) -> None:
        """The audit is over."""
        self._report(Finished, "audit", verdict=tuple(verdict), chosen=chosen, files=tuple(files))

    def _report(self, kind: type[Event], what: str, **more: Any) -> None:
        if self._listener is None:
            return
        ledger = self.ledger
        left = ledger.seconds_left
        event = kind(
            time=round(time.time(), 3),
            step=self._step,
            of=len(StepName),
            what=what,
            done=ledger.done,
            all=ledger.all,
            reused=ledger.reused,
            seconds_left=None if left is None else round(left, 1),
            at_least=ledger.at_least,
            **more,
        )
        self._listener(event)


def json_lines(event: Event) -> None:
    """An event as a line of JSON on stdout."""
    sys.stdout.write(json.dumps(to_json(event)) + "\n")
    sys.stdout.flush()
