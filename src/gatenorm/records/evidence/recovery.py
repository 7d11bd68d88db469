"""What a training after pruning brought."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gatenorm.records.evidence.base import Data, Evidence, Protocol
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.serialization import to_json


class HeldOutData(Data, frozen=True, kw_only=True, omit_defaults=True):
    """The text that was watched, in so many ``windows``; ``text`` says how it was put together."""

    text: str
    windows: int


class TrainingData(Data, frozen=True, kw_only=True, omit_defaults=True):
    """The text that was trained on, cut into ``sequences`` of ``length`` tokens."""

    text: str
    sequences: int
    length: int
    held_out: HeldOutData


class RecoveryProtocol(Protocol, frozen=True, kw_only=True):
    """The settings of the training, as in :class:`gatenorm.recovery.settings.Settings`, and what was trained.

    ``source`` is the pruned model, ``parent`` the unpruned one, where it was given.
    """

    what: str = "pruned and recovered"
    steps: int
    objective: str
    targets: tuple[str, ...]
    rank: int
    alpha: float
    dropout: float
    learning_rate: float
    schedule: str
    warm_up: float
    weight_decay: float
    clip: float
    batch: int
    accumulation: int
    length: int
    seed: int
    checkpointing: bool
    temperature: float
    watch_every: int
    watch_windows: int
    diverged: float
    processes: int
    held_out_windows: int
    source: ModelIdentity
    parent: ModelIdentity | None = None

    def facts(self) -> dict[str, Any]:
        return {name: value for name, value in to_json(self).items() if value not in ("", None, [], {})}


class Recovery(Evidence, frozen=True, kw_only=True, tag="gatenorm/recovery/1"):
    """Losses in nats per token on the held-out windows, and how much was trained.

    Attributes:
        nll_before: of the pruned model.
        nll_after: of the adapters at their best.
        nll_merged: of the recovered checkpoint as it is stored.
        nll_parent: of the unpruned model, where it was measured.
        best_step: of the ``steps`` done, the one whose adapters were kept.
        tokens: that were trained on.
        trainable: parameters of the adapters.
    """

    protocol: RecoveryProtocol
    data: TrainingData
    nll_before: float
    nll_after: float
    nll_merged: float
    nll_parent: float | None = None
    steps: int
    best_step: int
    tokens: int
    trainable: int

    @property
    def won_back(self) -> float | None:
        """``(before - merged) / (before - parent)``: the share of the log-perplexity that pruning lost that is back.

        Only where the parent was measured and pruning lost anything.
        """
        if self.nll_parent is None or self.nll_before <= self.nll_parent:
            return None
        return (self.nll_before - self.nll_merged) / (self.nll_before - self.nll_parent)

    def same_task(self, other: Evidence) -> bool:
        """Never: trainings are not compared item by item."""
        return False

    def numbers(self) -> Mapping[str, float]:
        stages = {name: getattr(self, f"nll_{name}") for name in ("before", "after", "merged", "parent")}
        losses = {name: value for name, value in stages.items() if value is not None}
        found = {f"nll_{name}": value for name, value in losses.items()}
        found |= {f"perplexity_{name}": math.exp(min(value, 700.0)) for name, value in losses.items()}
        found |= {} if self.won_back is None else {"won_back": self.won_back}
        return found | {name: float(getattr(self, name)) for name in ("steps", "best_step", "tokens", "trainable")}
