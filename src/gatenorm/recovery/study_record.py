"""What a study of recovery found: every variant's figures before and after, and up to which budget recovery works."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

import msgspec
from msgspec.structs import asdict

from gatenorm.records import ModelIdentity, Record, Value
from gatenorm.records.evidence import Data
from gatenorm.records.recovery_settings import Settings

# How far above the dense model's perplexity a recovered one may lie and still be called recovered.
TOLERANCE = 0.10
# How much of a task's accuracy may be lost where recovery is still said to work for it: two points.
LOST_ACCURACY = 0.02


class Figures(Value, frozen=True, kw_only=True):
    """What was measured of one model: perplexity on the held-out text and the other one, the tasks' accuracies."""

    held_out: float
    other: float | None = None
    tasks: dict[str, float] = {}  # noqa: RUF012

    @property
    def perplexities(self) -> dict[str, float]:
        """By what a text is called."""
        return {"held-out": self.held_out} | ({} if self.other is None else {"other": self.other})


class Outcome(Value, frozen=True, kw_only=True):
    """What was measured before and after one recovery, whose training took so many steps and minutes."""

    before: Figures
    after: Figures
    steps: int
    minutes: float
    diverged: str | None = None


class Variant(Outcome, frozen=True, kw_only=True):
    """One budget by one criterion.

    Attributes:
        won_back: the share of the lost held-out log-perplexity that is there again; ``None`` where nothing was lost.
        over_fits: whether training made the other text worse: what was learned was the training text.
        works: whether the held-out perplexity after recovery lies within the tolerance of the dense model's.
    """

    criterion: str
    share: float
    removed: tuple[int, ...]
    won_back: float | None
    over_fits: bool
    works: bool

    @classmethod
    def of(cls, criterion: str, share: float, removed: tuple[int, ...], outcome: Outcome, dense: Figures) -> Variant:
        """The variant that had this outcome beside the dense model's figures."""
        before, after = outcome.before, outcome.after
        lost = math.log(before.held_out / dense.held_out)
        return cls(
            criterion=criterion,
            share=float(share),
            removed=removed,
            won_back=math.log(before.held_out / after.held_out) / lost if lost > 0 else None,
            over_fits=before.other is not None and after.other is not None and after.other > before.other,
            works=after.held_out <= (1 + TOLERANCE) * dense.held_out,
            **asdict(outcome),
        )

    @property
    def name(self) -> str:
        return f"{self.criterion}-{len(self.removed)}"


class StudyProtocol(Value, frozen=True, kw_only=True):
    """How all models of a study were trained and measured: perplexity on so many windows, tasks by their jobs' keys."""

    settings: Settings
    window: int
    windows: int
    tasks: tuple[tuple[str, str, dict[str, object]], ...] = ()
    tolerance: float = TOLERANCE
    lost_accuracy: float = LOST_ACCURACY


class StudyTexts(Value, frozen=True, kw_only=True):
    """What was trained on, and what perplexity was measured on."""

    train: Data
    held_out: Data
    other: Data | None = None


class Study(Record, frozen=True, kw_only=True, tag="gatenorm/recovery-study/1"):
    """All variants beside the dense model, and how they were measured.

    ``present`` counts the attention sublayers of the dense model that could be removed.
    ``boundary`` says, by criterion, up to how many removed sublayers recovery works, from the smallest budget on.
    """

    model: ModelIdentity
    present: int
    dense: Figures
    variants: tuple[Variant, ...]
    boundary: dict[str, int | None]
    protocol: StudyProtocol
    data: StudyTexts
    versions: dict[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def of_variants(cls, variants: Sequence[Variant], **fields: Any) -> Study:
        """The study of these variants; ``fields`` are all others but the boundary."""
        working: dict[str, int | None] = {}
        for criterion in dict.fromkeys(v.criterion for v in variants):
            own = sorted((v for v in variants if v.criterion == criterion), key=lambda v: len(v.removed))
            working[criterion] = _until_one_fails(own, lambda v: v.works)
        return cls(variants=tuple(variants), boundary=working, **fields)

    @property
    def criteria(self) -> tuple[str, ...]:
        return tuple(self.boundary)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks whose accuracy was measured."""
        return tuple(self.dense.tasks)

    def of(self, criterion: str) -> list[Variant]:
        """Its variants, the smallest budget first."""
        return sorted((v for v in self.variants if v.criterion == criterion), key=lambda v: len(v.removed))

    def task_boundary(self, criterion: str, task: str) -> int | None:
        """As ``boundary``, for a task: its accuracy lies at most two points below the dense model's."""
        dense, allowed = self.dense.tasks[task], self.protocol.lost_accuracy
        # Shares of so many items: a loss of exactly as much as is allowed may be a rounding error above it.
        return _until_one_fails(self.of(criterion), lambda v: dense - v.after.tasks[task] <= allowed + 1e-9)

    def largest_working(self, criterion: str) -> Variant | None:
        """The variant at the boundary."""
        return next((v for v in self.of(criterion) if len(v.removed) == self.boundary[criterion]), None)


def _until_one_fails(smallest_first: Sequence[Variant], works: Callable[[Variant], bool]) -> int | None:
    counts = [len(one.removed) for one in takewhile(works, smallest_first)]
    return counts[-1] if counts else None
