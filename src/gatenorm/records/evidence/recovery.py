"""What a training after pruning brought."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from gatenorm.records.evidence.base import Data, Evidence, Protocol
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.recovery_settings import Settings
from gatenorm.records.self_text import SelfText


class HeldOutData(Data, frozen=True, kw_only=True, omit_defaults=True):
    """The text that was watched, in so many ``windows``; ``text`` says how it was put together."""

    text: str
    windows: int


class TrainingData(Data, frozen=True, kw_only=True, omit_defaults=True):
    """The text that was trained on, cut into ``sequences`` of ``length`` tokens.

    ``self_text`` says how the part of it that a model wrote came about.
    """

    text: str
    sequences: int
    length: int
    held_out: HeldOutData
    self_text: SelfText | None = None


class RecoveryProtocol(Protocol, frozen=True, kw_only=True):
    """The ``settings`` of the training, with the length that it had, and what was trained.

    ``source`` is the pruned model, ``parent`` the unpruned one, where it was given.
    """

    what: str = "pruned and recovered"
    settings: Settings
    processes: int
    held_out_windows: int
    source: ModelIdentity
    parent: ModelIdentity | None = None

    def facts(self) -> dict[str, object]:
        said = self.to_dict()
        said = said.pop("settings") | said
        return {name: value for name, value in said.items() if value not in ("", None, [], {})}


class Recovery(Evidence, frozen=True, kw_only=True, tag="gatenorm/recovery/2"):
    """Losses in nats per token on the held-out windows, their perplexities, and how much was trained.

    ``before`` is the pruned model, ``after`` what was trained at its best, ``merged`` the recovered checkpoint as it is
    stored, ``parent`` the unpruned model, where it was measured.

    Attributes:
        won_back: ``(before - merged) / (before - parent)`` of the losses: the share of the log-perplexity that pruning
            lost that is back; only where the parent was measured and pruning lost anything.
        best_step: of the ``steps`` done, the one whose values were kept.
        tokens: that were trained on.
        trainable: parameters that were trained.
    """

    comparable: ClassVar[bool] = False
    protocol: RecoveryProtocol
    data: TrainingData
    nll_before: float
    nll_after: float
    nll_merged: float
    nll_parent: float | None = None
    perplexity_before: float
    perplexity_after: float
    perplexity_merged: float
    perplexity_parent: float | None = None
    won_back: float | None = None
    steps: int
    best_step: int
    tokens: int
    trainable: int

    @classmethod
    def of_losses(cls, before: float, after: float, merged: float, parent: float | None, **fields: Any) -> Recovery:
        """The record with these losses; ``fields`` are those that do not follow from them."""
        losses = {"before": before, "after": after, "merged": merged, "parent": parent}
        fields |= {f"nll_{name}": loss for name, loss in losses.items()}
        known = {name: loss for name, loss in losses.items() if loss is not None}
        fields |= {f"perplexity_{name}": math.exp(min(loss, 700.0)) for name, loss in known.items()}
        if parent is not None and before > parent:
            fields["won_back"] = (before - merged) / (before - parent)
        return cls(**fields)

    def numbers(self) -> Mapping[str, float]:
        stages = ("before", "after", "merged", "parent")
        names = [f"{figure}_{stage}" for figure in ("nll", "perplexity") for stage in stages]
        return self.known(*names, "won_back", "steps", "best_step", "tokens", "trainable")
