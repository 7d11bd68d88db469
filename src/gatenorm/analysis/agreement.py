"""How far two rankings of the same layers agree: rank correlations, and the layers that both would remove."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from gatenorm.errors import CriterionError
from gatenorm.records import Scores
from gatenorm.records.validation import layers, whole
from gatenorm.surgery.planning import count_for_share

BUDGETS = (0.1, 0.2, 0.4, 0.5)


@dataclass(frozen=True)
class Overlap:
    """The layers that both rankings count among their ``count`` weakest; ``chance`` would give two random ones."""

    share: float
    count: int
    shared: tuple[int, ...]
    chance: float

    def to_json(self) -> dict[str, Any]:
        return {"share": self.share, "count": self.count, "shared": list(self.shared), "chance": self.chance}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Overlap:
        """Out of a record whose schema was checked."""
        return cls(float(data["share"]), whole(data["count"]), layers(data["shared"]), float(data["chance"]))


@dataclass(frozen=True)
class Agreement:
    """Two rankings side by side; a correlation is ``None`` where one of them gives all layers the same score."""

    first: str
    second: str
    spearman: float | None
    kendall: float | None
    overlaps: tuple[Overlap, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            "spearman": self.spearman,
            "kendall": self.kendall,
            "overlaps": [overlap.to_json() for overlap in self.overlaps],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Agreement:
        """Out of a record whose schema was checked."""
        spearman, kendall = (None if data[c] is None else float(data[c]) for c in ("spearman", "kendall"))
        overlaps = tuple(Overlap.from_json(overlap) for overlap in data["overlaps"])
        return cls(str(data["first"]), str(data["second"]), spearman, kendall, overlaps)


def agree(first: Scores, second: Scores, budgets: Sequence[float] = BUDGETS) -> Agreement:
    """How far two scorings of one model agree.

    Raises:
        CriterionError: they score different layers.
    """
    one, other = by_layer(first), by_layer(second)
    if one.keys() != other.keys():
        raise CriterionError(f"{label(first)} and {label(second)} score different layers: they do not compare")
    order = sorted(one)
    a, b = [one[layer] for layer in order], [other[layer] for layer in order]
    overlaps = []
    for share in budgets:
        count = count_for_share(share, len(order))
        shared = sorted({*first.ranking[:count]} & {*second.ranking[:count]})
        overlaps.append(Overlap(share, count, tuple(shared), count * count / len(order)))
    return Agreement(label(first), label(second), spearman(a, b), kendall(a, b), tuple(overlaps))


def by_layer(scores: Scores) -> Mapping[int, float]:
    """Scores by original layer number."""
    return {s.layer: s.score for s in scores.layers}


def label(scores: Scores) -> str:
    """What a scoring is called beside others: ``gate-norm``, ``cosine@self``, ``cosine@heldout.txt``, ``random@3``.

    A calibration may say itself what it is ``called``, where files' names alone do not tell it from another.
    """
    if scores.calibration is not None:
        called = scores.calibration.get("called") or Path(str(scores.calibration["source"])).name
        return f"{scores.criterion}@{called}"
    return scores.criterion if scores.seed in (None, 0) else f"{scores.criterion}@{scores.seed}"


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation: Pearson's, of the ranks; equal values share the mean of their ranks.

    ``None`` where all values of one side are equal.
    """
    x, y = ranks(a), ranks(b)
    mean = (len(x) - 1) / 2
    above = sum((p - mean) * (q - mean) for p, q in zip(x, y, strict=True))
    below = math.sqrt(sum((p - mean) ** 2 for p in x) * sum((q - mean) ** 2 for q in y))
    return above / below if below else None


def kendall(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's tau-b: concordant minus discordant pairs, over the root of the pairs untied on either side.

    ``None`` where all values of one side are equal.
    """
    balance = untied_a = untied_b = 0
    for (p, q), (r, s) in combinations(zip(a, b, strict=True), 2):
        left, right = (p > r) - (p < r), (q > s) - (q < s)
        balance += left * right
        untied_a += left != 0
        untied_b += right != 0
    return balance / math.sqrt(untied_a * untied_b) if untied_a and untied_b else None


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0; equal values share the mean of theirs."""
    ordered = sorted(values)
    return [ordered.index(v) + (ordered.count(v) - 1) / 2 for v in values]
