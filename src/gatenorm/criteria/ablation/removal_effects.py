"""What it costs to remove sublayers, measured by removing them: one at a time, or greedily one after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from gatenorm.criteria.tokens.sources import Samples, batches
from gatenorm.evaluation.tasks.perplexity import negative_log_likelihood
from gatenorm.models.removable import Removable
from gatenorm.records import ATTENTION

# The loss without the sublayers of these layers, in nats per predicted token.
Loss = Callable[[Collection[int]], float]
# The same for several sets at a time, which can then share what they have in common.
Losses = Callable[[Sequence[Collection[int]], "Progress | None"], list[float]]
Progress = Callable[[int, int], None]


def loss_on(removable: Removable, samples: Samples, kind: str = ATTENTION) -> Loss:
    """The mean negative log-likelihood of the samples, in nats per predicted token, without sublayers of given layers.

    Args:
        kind: which of a layer's sublayers: ``attention``, ``mlp``, or ``block`` for both.

    Raises (when called):
        EvaluationError: logits that are not finite.
    """

    def loss(layers: Collection[int]) -> float:
        with removable.without(layers, kind) as model:
            return sum(negative_log_likelihood(model, batch) for batch in batches(samples)) / samples.predicted

    return loss


def leave_one_out(losses: Losses, layers: Sequence[int], progress: Progress | None = None) -> dict[int, float]:
    """The rise in loss when the sublayer of one layer alone is removed: ``loss({l}) - loss({})`` by layer, in nats per
    predicted token. Below zero where the model is better off without.

    Args:
        progress: called with (evaluations done, evaluations in all).

    Source: docs/criteria.md; the yardstick for all other criteria.
    """
    whole, *without = losses([(), *((layer,) for layer in layers)], _part(progress, 0, len(layers) + 1))
    return {layer: loss - whole for layer, loss in zip(layers, without, strict=True)}


@dataclass(frozen=True)
class GreedyPath:
    """The order in which layers were removed, and the loss, in nats per predicted token, after each removal.

    ``whole`` is the loss before any. ``order`` holds all layers: those that were never removed come last, as the last
    round of evaluations ranks them, and the one sublayer that must stay is the very last.
    """

    whole: float
    order: tuple[int, ...]
    losses: tuple[float, ...]


def greedy(
    losses: Losses, layers: Sequence[int], steps: int | None = None, progress: Progress | None = None
) -> GreedyPath:
    """Remove, again and again, the sublayer whose removal leaves the least loss.

    ``L (L + 1) / 2`` evaluations for ``L`` layers. Of equal losses the later layer goes first, as in every ranking.

    Args:
        steps: how many to remove; ``None`` for all but one.
        progress: called with (evaluations done, evaluations in all).

    Source: SLEB (arXiv 2402.09025) and BlockPruner.
    """
    last = len(layers) - 1 if steps is None else min(steps, len(layers) - 1)
    total, done = 1 + sum(len(layers) - n for n in range(last)), 1
    (whole,) = losses([()], _part(progress, 0, total))
    gone: list[int] = []
    path: list[float] = []
    ranked = list(layers)
    for _ in range(last):
        candidates = [layer for layer in layers if layer not in gone]
        found = dict(
            zip(
                candidates,
                losses([(*gone, layer) for layer in candidates], _part(progress, done, total)),
                strict=True,
            )
        )
        done += len(candidates)
        ranked = sorted(found, key=lambda layer: (found[layer], -layer))
        gone.append(ranked.pop(0))
        path.append(found[gone[-1]])
    return GreedyPath(whole, (*gone, *ranked), tuple(path))


def _part(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Progress of one of several calls, each of which counts from nothing."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
