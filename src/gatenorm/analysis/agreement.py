"""How far two rankings of the same layers agree: rank correlations, and the layers that both would remove."""

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from gatenorm.errors import CriterionError
from gatenorm.records import Scores
from gatenorm.records.rankings import Agreement, Overlap
from gatenorm.surgery.planning import count_for_share

BUDGETS = (0.1, 0.2, 0.4, 0.5)


def agree(first: Scores, second: Scores) -> Agreement:
    """How far two scorings of one model agree.

    Raises:
        CriterionError: they score different layers.
    """
    one, other = first.by_layer, second.by_layer
    if one.keys() != other.keys():
        problem = f"{label(first)} and {label(second)} score different layers, which cannot be compared"
        raise CriterionError("layers-differ", problem)
    order = sorted(one)
    a, b = [one[layer] for layer in order], [other[layer] for layer in order]
    overlaps = []
    for share in BUDGETS:
        count = count_for_share(share, len(order))
        shared = sorted({*first.ranking[:count]} & {*second.ranking[:count]})
        chance = count * count / len(order)
        overlaps.append(Overlap(share=share, count=count, shared=tuple(shared), chance=chance))
    return Agreement(
        first=label(first),
        second=label(second),
        spearman=spearman(a, b),
        kendall=kendall(a, b),
        overlaps=tuple(overlaps),
    )


def removed_from(scores: Scores, layers: Sequence[int]) -> list[int]:
    """For every layer the index of the smallest budget that removes it; ``len(BUDGETS)`` for those kept."""
    counts = [count_for_share(share, len(scores.ranking)) for share in BUDGETS]
    place = {layer: n for n, layer in enumerate(scores.ranking)}
    return [next((n for n, count in enumerate(counts) if place[layer] < count), len(counts)) for layer in layers]


def agreements(scores: Sequence[Scores]) -> tuple[Agreement, ...]:
    """How far every two of them agree."""
    return tuple(agree(first, second) for first, second in combinations(scores, 2))


def label(scores: Scores) -> str:
    """What a scoring is called beside others: ``gate-norm``, ``cosine@self``, ``cosine@heldout.txt``, ``random@3``.

    A calibration may say itself what it is ``called``, where files' names alone do not tell it from another.
    """
    if scores.calibration is not None:
        called = scores.calibration.called or Path(scores.calibration.source).name
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


def spearman_ends(value: float, pairs: int) -> tuple[float, float] | None:
    """The 95% interval of Spearman's rank correlation of so many pairs.

    Fisher's ``atanh(r)`` with the variance ``(1 + r^2 / 2) / (n - 3)`` (Bonett and Wright, 2000). ``None`` of fewer
    than four pairs, and of a perfect correlation, whose spread cannot be told.
    """
    if pairs < 4 or abs(value) >= 1:
        return None
    reach = 1.959964 * math.sqrt((1 + value * value / 2) / (pairs - 3))
    return math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach)


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
