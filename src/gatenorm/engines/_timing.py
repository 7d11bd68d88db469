"""What timing an engine takes and gives: a setting and cases in, samples out."""

import os
from collections.abc import Mapping
from typing import Protocol

from gatenorm.records.evidence import Sample, Shares
from gatenorm.records.serialization import Value


class Case(Value, frozen=True):
    """``batch`` prompts of ``tokens`` tokens, each continued by ``new`` tokens from the cache."""

    tokens: int
    batch: int = 1
    new: int = 32

    def __str__(self) -> str:
        return f"{self.tokens:,} tokens, batch {self.batch}"


class Setting(Value, frozen=True):
    """How a model is opened for timing.

    Attributes:
        cases: all that will be run; engines that reserve their cache at the start reserve enough for the largest.
        threads: of the processor; ``None`` leaves it to the engine.
        attention: the implementation that transformers is to take; ``None`` leaves it to transformers.
    """

    cases: tuple[Case, ...]
    device: str = "cpu"
    dtype: str = "auto"
    threads: int | None = None
    attention: str | None = None
    seed: int = 0

    @property
    def longest(self) -> int:
        """The most tokens that one sequence will have."""
        return max(case.tokens + case.new + 1 for case in self.cases)

    @property
    def largest_batch(self) -> int:
        return max(case.batch for case in self.cases)


class SkippedError(Exception):
    """A case that a model cannot run, with the reason; the other cases go on."""


class TimedSession(Protocol):
    """A model opened in an engine, ready to be timed."""

    @property
    def versions(self) -> Mapping[str, str]:
        """The software that the figures rest on."""

    @property
    def dtype(self) -> str | None:
        """The type in which the model computes, where the engine says."""

    def run(self, case: Case) -> Sample:
        """Time one case once.

        Raises:
            SkippedError: it does not fit, or the engine refuses it.
        """

    def profile(self, case: Case) -> Shares | None:
        """Run the case once with hooks and say what share each attention has; ``None`` where that cannot be told."""

    def close(self) -> None:
        """Free everything; calling it again is harmless."""


def threads_at_hand() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
