"""What it costs to remove sublayers, measured by removing them: one at a time, or greedily one after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from gatenorm.calibration.removal import Removable
from gatenorm.calibration.sources import Samples, batches
from gatenorm.evaluation.perplexity import negative_log_likelihood
from gatenorm.records import ATTENTION

# The loss without the sublayers of these layers, in nats per predicted token.
Loss = Callable[[Collection[int]], float]
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


def leave_one_out(loss: Loss, layers: Sequence[int], progress: Progress | None = None) -> dict[int, float]:
    """The rise in loss when the sublayer of one layer alone is removed: ``loss({l}) - loss({})`` by layer, in nats per
    predicted token. Below zero where the model is better off without.

    Args:
        progress: called with (evaluations done, evaluations in all).

    Source: docs/criteria.md; the yardstick for all other criteria.
    """
    total = len(layers) + 1
    whole = _step(loss, (), progress, 1, total)
    return {layer: _step(loss, (layer,), progress, n + 2, total) - whole for n, layer in enumerate(layers)}


@dataclass(frozen=True)
class GreedyPath:
    """The order in which layers were removed, and the loss, in nats per predicted token, after each removal.

    ``whole`` is the loss before any. ``order`` holds all layers: those that were never removed come last, as the last
    round of evaluations ranks them, and the one sublayer that must stay is the very last.
    """

    whole: float
    order: tuple[int, ...]
    losses: tuple[float, ...]


def greedy(loss: Loss, layers: Sequence[int], steps: int | None = None, progress: Progress | None = None) -> GreedyPath:
    """Remove, again and again, the sublayer whose removal leaves the least loss.

    ``L (L + 1) / 2`` evaluations for ``L`` layers. Of equal losses the later layer goes first, as in every ranking.

    Args:
        steps: how many to remove; ``None`` for all but one.
        progress: called with (evaluations done, evaluations in all).

    Source: SLEB (arXiv 2402.09025) and BlockPruner.
    """
    last = len(layers) - 1 if steps is None else min(steps, len(layers) - 1)
    total, done = 1 + sum(len(layers) - n for n in range(last)), 1
    whole = _step(loss, (), progress, done, total)
    gone: list[int] = []
    losses: list[float] = []
    ranked = list(layers)
    for _ in range(last):
        found = {}
        for layer in (candidate for candidate in layers if candidate not in gone):
            done += 1
            found[layer] = _step(loss, (*gone, layer), progress, done, total)
        ranked = sorted(found, key=lambda layer: (found[layer], -layer))
        gone.append(ranked.pop(0))
        losses.append(found[gone[-1]])
    return GreedyPath(whole, (*gone, *ranked), tuple(losses))


def _step(loss: Loss, layers: Collection[int], progress: Progress | None, done: int, total: int) -> float:
    found = loss(layers)
    if progress:
        progress(done, total)
    return found
