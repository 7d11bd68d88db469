"""Whether a model has a clear group of weak late layers, or only a slope."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gatenorm.records import Scores, spans

# The best split of one normal lump explains 0.64 of its variance, of a uniform one 0.75; of few layers somewhat more.
_SHARE = 0.8
# Neighbours in a ranking without groups lie a typical gap apart; a group is set off by several.
_GAP = 3.0
_FEWEST_LAYERS = 6


@dataclass(frozen=True)
class Cluster:
    """The weak late layers, in order, and why they are a cluster; no ``members`` where there is none, and why not."""

    members: tuple[int, ...]
    reason: str

    def __bool__(self) -> bool:
        return bool(self.members)


def late_cluster(scores: Scores) -> Cluster:
    """The cluster of weak late layers that the scores show, if they show one.

    The logarithms of the scores are split in two where that explains most of their variance (Otsu's threshold). The
    weaker part is a cluster when it has at least two layers, all of them in the deeper half, the split explains at
    least 0.8 of the variance, and the gap at the split is at least 3 times the median gap between neighbours in the
    ranking.

    Source: N. Otsu, "A threshold selection method from gray-level histograms" (1979); the limits are this project's.
    """
    if any(s.score <= 0 for s in scores.layers):
        return Cluster((), "scores of zero or less have no logarithm: no cluster is looked for")
    if len(scores.layers) < _FEWEST_LAYERS:
        return Cluster((), f"{len(scores.layers)} layers are too few to tell a cluster from a slope")
    ranked = sorted(scores.layers, key=lambda s: s.score)
    logs = np.log([s.score for s in ranked])
    size, share = _otsu(logs)
    gaps = [b - a for a, b in pairwise(logs)]
    gap, typical = gaps[size - 1], float(np.median(gaps))
    members = tuple(sorted(s.layer for s in ranked[:size]))
    found = f"the weakest group, layers {spans(members)},"
    deeper = scores.model.layers / 2
    if share < _SHARE:
        return Cluster((), f"the best split explains {share:.2f} of the variance of the log scores, a cluster {_SHARE}")
    if min(members) < deeper:
        return Cluster((), f"{found} is not confined to the deeper half of the model")
    if size < 2:
        return Cluster((), f"only layer {members[0]} stands apart: one layer is no cluster")
    if gap < _GAP * typical:
        return Cluster((), f"{found} is set off by {gap / typical:.1f} times the typical gap, a cluster by {_GAP:g}")
    return Cluster(
        members,
        f"{found} lies {np.exp(gap):.2f} times below the next layer; the split explains {share:.2f} of the variance",
    )


def _otsu(ordered: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[int, float]:
    """The size of the lower part of the best split in two, and the share of the variance that it explains."""
    total = float(((ordered - ordered.mean()) ** 2).sum())
    if total == 0:
        return 1, 0.0
    best, best_share = 1, 0.0
    for size in range(1, ordered.size):
        low, high = ordered[:size].mean(), ordered[size:].mean()
        between = size * (ordered.size - size) / ordered.size * (high - low) ** 2
        if between / total > best_share:
            best, best_share = size, float(between / total)
    return best, best_share
