"""The protocol of a speed measurement: variants take turns, so that whatever slows the machine slows them alike.

For every case (prompt length, batch, new tokens) each variant runs once to warm up; then come the rounds, and in every
round each variant runs once, the baseline first: A B A B, not A A B B. What is reported are medians with the smallest
and the largest, and ratios formed within each round before their median is taken. Where the engine can tell how long
the baseline's attention takes (a run with hooks), such a run stands at the end of each round: A B P A B P. Its own time
counts for nothing, only the shares in it.

What else a machine does only ever adds time, and on a pass of a few milliseconds it may double it. So a variant whose
turn would be shorter than `turn_seconds` runs several times in it, and the fastest time of each phase counts.

Nothing here knows an engine: a variant is a `TimedSession`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from gatenorm.engines import Case, Sample, Shares, SkippedError, TimedSession
from gatenorm.progress import Progress
from gatenorm.records.evidence import Spread

TURN_SECONDS = 0.5
_MOST_RUNS = 20

T = TypeVar("T")


def fastest(samples: Sequence[Sample]) -> Sample:
    """The runs of one turn as one: the fastest time of each phase, the highest peak of memory."""
    peaks = [sample.peak_bytes for sample in samples if sample.peak_bytes is not None]
    return Sample(
        prefill=min(sample.prefill for sample in samples),
        first_token=min(sample.first_token for sample in samples),
        decode=min(sample.decode for sample in samples),
        cache_bytes=samples[0].cache_bytes,
        peak_bytes=max(peaks, default=None),
    )


@dataclass
class Measured:
    """What one variant did on one case: a sample a round, or why there is none; ``shares`` of the baseline only.

    ``runs`` is how often it ran in each turn; the fastest counts.
    """

    name: str
    case: Case
    samples: list[Sample] = field(default_factory=list)
    shares: list[Shares] = field(default_factory=list)
    skipped: str | None = None
    runs: int = 1

    def seconds(self, phase: str) -> Spread:
        """``prefill``, ``first_token`` or ``decode``, over the rounds."""
        return Spread.of([getattr(sample, phase) for sample in self.samples])

    def tokens_per_second(self) -> Spread:
        """New tokens of all sequences per second."""
        return Spread.of([self.case.batch * self.case.new / sample.decode for sample in self.samples])

    def speedup(self, baseline: Measured, phase: str) -> Spread:
        """Baseline's seconds over this variant's, round by round."""
        pairs = zip(baseline.samples, self.samples, strict=True)
        return Spread.of([getattr(theirs, phase) / getattr(own, phase) for theirs, own in pairs])

    def ideal(self, phase: str, left: Mapping[int, float]) -> float:
        """The speed-up that editing attentions could bring at most: that of a pass in which nothing else cost anything.

        ``T / (T - sum over edited layers of T share_l (1 - left_l))``, where the pass takes ``T`` without any
        instrument: its time cancels out. ``share_l`` is layer l's part of a run with hooks (projections, rotary
        positions, attention, output projection, the norms that go with it, and its residual add), ``left_l`` the share
        of these seconds that what takes the attention's place takes by the cost model: 0 for removal. The sum's median
        over the profiled runs counts.

        Args:
            left: ``left_l`` by edited layer.
        """
        saved = (sum(run.of(phase, [layer]) * (1 - part) for layer, part in left.items()) for run in self.shares)
        return 1 / (1 - statistics.median(saved))

    @property
    def cache_bytes(self) -> int | None:
        return self.samples[0].cache_bytes if self.samples else None

    @property
    def peak_bytes(self) -> int | None:
        sizes = [s.peak_bytes for s in self.samples if s.peak_bytes is not None]
        return max(sizes) if sizes else None


def measure(
    sessions: Mapping[str, TimedSession],
    cases: Sequence[Case],
    rounds: int,
    *,
    baseline: str | None = None,
    warmups: int = 1,
    turn_seconds: float = TURN_SECONDS,
    progress: Progress | None = None,
) -> list[Measured]:
    """Measure every case on every variant, taking turns.

    Args:
        sessions: variants by name, in the order in which they run.
        rounds: how often each runs every case, warm-up not counted.
        baseline: which of them is profiled at the end of every round; none by default.
        turn_seconds: the least that a turn lasts; more than 20 runs are never made in it.
        progress: called with (tokens of turns done, tokens of all turns): a long prompt takes longer than a short one.

    Returns:
        One entry for every case and variant, case by case.
    """
    measured: list[Measured] = []
    total, done = sum(map(_tokens, cases)) * len(sessions) * (warmups + rounds), 0
    for case in cases:
        by_name = {name: Measured(name, case) for name in sessions}
        measured += by_name.values()
        slowest = 0.0
        for turn in range(warmups + rounds):
            for name, entry in by_name.items():
                if turn == warmups and slowest:
                    entry.runs = min(_MOST_RUNS, max(1, math.ceil(turn_seconds / slowest)))
                sample = _turn(entry, sessions[name], entry.runs)
                if sample is not None and turn >= warmups:
                    entry.samples.append(sample)
                elif sample is not None:
                    slowest = max(slowest, sample.first_token + sample.decode)
                done += _tokens(case)
                if progress:
                    progress(done, total)
            if baseline is not None:
                shares = _attempt(by_name[baseline], sessions[baseline].profile)
                if shares is not None and turn >= warmups:
                    by_name[baseline].shares.append(shares)
        for entry in by_name.values():
            if entry.skipped is not None:
                entry.samples.clear()  # half a series has no partner in the other's rounds
    return measured


def _turn(entry: Measured, session: TimedSession, runs: int) -> Sample | None:
    """One variant's turn: ``runs`` runs, the fastest of which counts."""
    taken = [sample for sample in (_attempt(entry, session.run) for _ in range(runs)) if sample is not None]
    return fastest(taken) if len(taken) == runs else None


def _attempt(entry: Measured, run: Callable[[Case], T]) -> T | None:
    if entry.skipped is not None:
        return None
    try:
        return run(entry.case)
    except SkippedError as reason:
        entry.skipped = str(reason)
        return None


def _tokens(case: Case) -> int:
    return case.batch * (case.tokens + case.new)
