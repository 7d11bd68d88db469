"""Diagnostics of a ranking: whether scores form a late cluster, and what speaks against them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gatenorm.analysis.agreement import label, spearman
from gatenorm.criteria.registry import weight_criterion
from gatenorm.records import Diagnostic, Scores, spans
from gatenorm.records.evidence import (
    Cliff,
    FewLayersShared,
    GateNormsDoNotFall,
    HighPerplexity,
    PerplexityJump,
    SharedLayers,
)
from gatenorm.records.numbers import quantity

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
    group = f"the weakest group, layers {spans(members)},"
    deeper = scores.model.layers / 2
    if share < _SHARE:
        return Cluster(
            (), f"the best split explains {share:.2f} of the variance of the log scores, a cluster needs {_SHARE}"
        )
    if min(members) < deeper:
        return Cluster((), f"{group} is not confined to the deeper half of the model")
    if size < 2:
        return Cluster((), f"only layer {members[0]} stands apart: one layer is no cluster")
    if gap < _GAP * typical:
        return Cluster((), f"{group} is set off by {gap / typical:.1f} times the typical gap, a cluster needs {_GAP:g}")
    return Cluster(
        members,
        f"{group} lies {np.exp(gap):.2f} times below the next layer; the split explains {share:.2f} of the variance",
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


HIGH_PERPLEXITY = 100.0
JUMP = 10.0
# A cliff is a step that is large in itself (a tenth of a nat is 10.5% of perplexity) and beside the others.
_CLIFF_NATS = 0.1
_CLIFF_TIMES = 3.0


def too_high(before: float, after: float) -> bool:
    """Whether a perplexity above 100 tells of a layer that is missing.

    Where the unpruned model's is above 50, the text is foreign to it, and 100 says nothing.
    """
    return after > HIGH_PERPLEXITY >= 2 * before


def few_shared(proxy: Scores, check: Scores, count: int, protect: Sequence[int] = ()) -> Diagnostic | None:
    """Fewer than half of the ``count`` layers that ``proxy`` would remove are among those that ``check`` would."""
    chosen, other = (scores.weakest(count, protect) for scores in (proxy, check))
    shared = sorted({*chosen} & {*other})
    if 2 * len(shared) >= count:
        return None
    evidence = FewLayersShared(
        criterion=label(proxy),
        count=count,
        chosen=tuple(sorted(chosen)),
        limit=count / 2,
        checks=(SharedLayers(check=label(check), chosen=tuple(sorted(other)), shared=tuple(shared)),),
    )
    which = f" ({spans(shared)})" if shared else ""
    message = (
        f"{label(proxy)} and {label(check)} share {len(shared)} of {quantity(count, 'layer')} that each would remove"
        f"{which}, fewer than half: {label(proxy)} may be unreliable for this model"
    )
    return Diagnostic(message=message, evidence=evidence)


def gate_norms_do_not_fall(scores: Scores) -> Diagnostic | None:
    """The gate norms of the last third of the layers are no smaller, in the mean, than those of the first third.

    The paper's criterion rests on their falling towards the late layers. Looked for in criteria that are gate norms,
    on models of at least 6 layers.
    """
    values = scores.by_layer
    chosen = weight_criterion(scores.criterion)
    if chosen is None or not chosen.gate or len(values) < _FEWEST_LAYERS:
        return None
    layers = sorted(values)
    third = len(layers) // 3
    early = statistics.fmean(values[layer] for layer in layers[:third])
    late = statistics.fmean(values[layer] for layer in layers[-third:])
    if late < early:
        return None
    evidence = GateNormsDoNotFall(
        criterion=scores.criterion,
        mean_of_first_third=early,
        mean_of_last_third=late,
        layers_in_a_third=third,
        spearman_with_depth=spearman(layers, [values[layer] for layer in layers]),
    )
    message = (
        f"{scores.criterion} does not fall towards the late layers: {early:.4g} in the mean of the first {third}, "
        f"{late:.4g} of the last {third}; the paper's argument rests on such a fall"
    )
    return Diagnostic(message=message, evidence=evidence)


def curve_signatures(name: str, perplexities: Mapping[int, float]) -> list[Diagnostic]:
    """What a curve of perplexity by number of removed sublayers warns of: high perplexity, a jump, a cliff.

    Args:
        name: the criterion, as the messages should call it.
        perplexities: by number of removed sublayers, 0 among them.
    """
    counts = sorted(perplexities)
    warnings = []
    high = next((n for n in counts if too_high(perplexities[counts[0]], perplexities[n])), None)
    if high is not None:
        warnings.append(_perplexity(HighPerplexity, HIGH_PERPLEXITY, name, perplexities, high, "is above 100"))
    limit = JUMP * perplexities[counts[0]]
    jump = next((n for n in counts if perplexities[n] >= limit), None)
    if jump is not None:
        what = "has risen by an order of magnitude"
        warnings.append(_perplexity(PerplexityJump, limit, name, perplexities, jump, what))
    at = _cliff(counts, perplexities)
    if at is not None:
        before = counts[counts.index(at) - 1]
        evidence = Cliff(
            criterion=name,
            removed_before=before,
            removed_after=at,
            perplexity_before=perplexities[before],
            perplexity_after=perplexities[at],
            limit_nats=_CLIFF_NATS,
            limit_times_median_step=_CLIFF_TIMES,
        )
        message = (
            f"{name}: a cliff at {at} removed: perplexity {perplexities[before]:.4g} at {before}, "
            f"{perplexities[at]:.4g} at {at}"
        )
        warnings.append(Diagnostic(message=message, evidence=evidence))
    return warnings


def _perplexity(
    kind: type[HighPerplexity], limit: float, name: str, perplexities: Mapping[int, float], at: int, what: str
) -> Diagnostic:
    whole, pruned = perplexities[min(perplexities)], perplexities[at]
    message = (
        f"{name}: perplexity {what} with {at} removed ({pruned:.4g}, unpruned {whole:.4g}): a layer that the model "
        "needs has gone"
    )
    evidence = kind(criterion=name, removed=at, perplexity=pruned, perplexity_whole=whole, limit=limit)
    return Diagnostic(message=message, evidence=evidence)


def _cliff(counts: Sequence[int], perplexities: Mapping[int, float]) -> int | None:
    """The first number of removals after which the loss rises, per removal, by far more than it usually does."""
    steps = [(math.log(perplexities[b]) - math.log(perplexities[a])) / (b - a) for a, b in pairwise(counts)]
    if len(steps) < 3:
        return None
    limit = max(_CLIFF_NATS, _CLIFF_TIMES * statistics.median(steps))
    return next((counts[n + 1] for n, step in enumerate(steps) if step > limit), None)
