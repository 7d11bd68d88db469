"""What an audit reports while it works: events, for a terminal, for machines, or for nobody."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from gatenorm.audit.plan.parts import Part
from gatenorm.records.audit import Setting, StepName
from gatenorm.records.numbers import duration
from gatenorm.records.serialization import Value, to_json


class Event(Value, frozen=True, kw_only=True, tag_field="event"):
    """Something happened in step ``step`` of ``of``, at ``time`` in seconds since the epoch; ``what`` is for people.

    ``done`` of ``all`` jobs known so far are done, ``reused`` ones among them. ``seconds_left`` is ``None`` where too
    little was measured to tell. ``at_least`` says that it leaves out kinds of jobs of which none was timed.
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

    def words(self, later: float = 0.0) -> str:
        """A line for people, so many seconds later: step, what is at work, how much is done, how long it may take."""
        about, seconds = "at least" if self.at_least else "about", self.left(later)
        left = "" if not seconds else f", {about} {duration(seconds)} left"
        return f"step {self.step} of {self.of} ({self.done} of {self.all} done{left}): {self.what}"

    def left(self, later: float) -> float | None:
        """The seconds left so many seconds later; ``None`` where too little was measured to tell."""
        return self.seconds_left


class Planned(Event, frozen=True, tag="plan"):
    """Nothing has begun; what lies ahead, a line for each part of it.

    ``longest`` is the part that takes longest, and ``shorter`` the setting that would shorten it, where that matters.
    """

    lines: tuple[str, ...]
    longest: str = ""
    shorter: Setting | None = None

    def words_of_plan(self, named: Callable[[str], str]) -> list[str]:
        """The lines, and which setting would shorten the longest part, its key as the caller calls it."""
        if self.shorter is None:
            return list(self.lines)
        setting = f"{named(self.shorter.key)} {self.shorter.value}"
        return [*self.lines, f"takes longest: {self.longest}; to shorten that: {setting}"]


class StepBegan(Event, frozen=True, tag="step"):
    """A step begins."""


class WorkBegan(Event, frozen=True, tag="work"):
    """A job is taken up, which is expected to take so many seconds; ``None`` where nothing is known of its kind."""

    seconds_expected: float | None

    def left(self, later: float) -> float | None:
        """Less by what has gone by; once the job takes longer than expected, more by as much as it overruns."""
        if self.seconds_left is None or self.seconds_expected is None:
            return self.seconds_left
        return self.seconds_left - self.seconds_expected + abs(self.seconds_expected - later)


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


# Seconds for which reckoning is believed before what was timed outweighs it.
_BELIEVED = 10.0


class Ledger:
    """How many jobs of which kind lie ahead, and how long they will take: as others of their kind, or as reckoned."""

    def __init__(self) -> None:
        self._ahead: dict[str, int] = defaultdict(int)
        self._foreseen: dict[tuple[int, str], int] = {}
        self._reckoned: dict[str, float] = {}
        self._took: dict[str, list[float]] = defaultdict(list)
        self.done = 0
        self.reused = 0

    def foresee(self, step: int, like: str, count: int, seconds: float) -> None:
        """In that step so many jobs of a kind are likely to come, of so many seconds each."""
        self._foreseen[step, like] = self._foreseen.get((step, like), 0) + count
        self._reckoned[like] = seconds

    def reached(self, step: int) -> None:
        """What was foreseen for earlier steps, and did not come, will not."""
        self._foreseen = {key: count for key, count in self._foreseen.items() if key[0] >= step}

    def expect(self, like: str, count: int = 1) -> None:
        """So many more jobs of this kind will come, foreseen or not."""
        self._ahead[like] += count
        for key in [key for key in self._foreseen if key[1] == like]:
            taken = min(max(count, 0), self._foreseen[key])
            self._foreseen[key] -= taken
            count -= taken

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
        return self.done + sum(self._ahead.values()) + sum(self._foreseen.values())

    @property
    def at_least(self) -> bool:
        """Whether jobs of a kind lie ahead that was neither timed nor reckoned."""
        known = self._took.keys() | self._reckoned.keys()
        return any(count and like not in known for like, count in self._ahead.items())

    @property
    def seconds_left(self) -> float | None:
        """The time of every job ahead; ``None`` before anything was measured or reckoned."""
        ahead = [*self._ahead.items(), *((like, count) for (_, like), count in self._foreseen.items())]
        each = [(count, self.expected(like)) for like, count in ahead]
        if all(seconds is None for _, seconds in each):
            return None
        return sum(count * (seconds or 0.0) for count, seconds in each)

    def expected(self, like: str) -> float | None:
        """The seconds of a job: the mean of its kind, else as reckoned, by how much the others took longer than that;
        of a kind that was not reckoned either, the mean of all.
        """
        if self._took.get(like):
            return fmean(self._took[like])
        if like in self._reckoned:
            timed = {name: took for name, took in self._took.items() if name in self._reckoned}
            took = sum(map(sum, timed.values()))
            reckoned = sum(len(took) * self._reckoned[name] for name, took in timed.items())
            return self._reckoned[like] * (took + _BELIEVED) / (reckoned + _BELIEVED)
        every = [seconds for took in self._took.values() for seconds in took]
        return fmean(every) if every else None


class Reporter:
    """Turns what happens into events for a listener; quiet without one."""

    def __init__(self, listener: Listener | None = None):
        self._listener = listener
        self._step = 0
        self.ledger = Ledger()

    def plan(self, lines: Sequence[str], longest: Part | None = None) -> None:
        """What will be done, before anything is, and the part that takes longest, where that can be shortened."""
        named = {} if longest is None else {"longest": longest.title, "shorter": longest.shorter}
        self._report(Planned, "plan", lines=tuple(lines), **named)

    def step(self, name: StepName) -> None:
        """A step begins."""
        self._step = name.number
        self.ledger.reached(name.number)
        self._report(StepBegan, name)

    def work(self, title: str, like: str) -> None:
        """A job is taken up."""
        self._report(WorkBegan, title, seconds_expected=self.ledger.expected(like))

    def done(self, title: str, like: str, seconds: float | None) -> None:
        """A job is done, or (``None``) was done before."""
        self.ledger.settle(like, seconds)
        self._report(JobDone, title, seconds=seconds, reused_this=seconds is None)

    def finished(self, verdict: Sequence[str], chosen: str | None, files: Sequence[str]) -> None:
        """The audit is over."""
        self.ledger.reached(len(StepName) + 1)
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
