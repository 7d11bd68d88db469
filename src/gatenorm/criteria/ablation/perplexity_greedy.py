"""The order in which removal raises the loss least."""

from collections.abc import Sequence
from dataclasses import dataclass

from gatenorm.criteria.criterion import EVERY_KIND, ForwardCriterion, Losses, Measured, Run
from gatenorm.progress import Progress, part_of


@dataclass(frozen=True)
class GreedyPath:
    """The order in which layers were removed, and the loss, in nats per predicted token, after each removal.

    ``whole`` is the loss before any. ``order`` holds all layers: those that were never removed come last, as the last
    round of evaluations ranks them, and the one sublayer that must stay is the very last.
    """

    whole: float
    order: tuple[int, ...]
    losses: tuple[float, ...]

    @property
    def steps(self) -> dict[int, float]:
        """The step, from 1, at which each layer is removed."""
        return {layer: float(step) for step, layer in enumerate(self.order, 1)}


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
    (whole,) = losses([()], part_of(progress, 0, total))
    gone: list[int] = []
    path: list[float] = []
    ranked = list(layers)
    for _ in range(last):
        candidates = [layer for layer in layers if layer not in gone]
        found = dict(
            zip(
                candidates,
                losses([(*gone, layer) for layer in candidates], part_of(progress, done, total)),
                strict=True,
            )
        )
        done += len(candidates)
        ranked = sorted(found, key=lambda layer: (found[layer], -layer))
        gone.append(ranked.pop(0))
        path.append(found[gone[-1]])
    return GreedyPath(whole, (*gone, *ranked), tuple(path))


def _measure(run: Run) -> Measured:
    path = greedy(run.losses, run.layers, progress=run.progress)
    return Measured(path.steps, "the step at which it is removed", (path.whole, *path.losses))


CRITERION = ForwardCriterion(
    summary="the order in which removal raises the loss least",
    measure=_measure,
    kinds=EVERY_KIND,
    passes=lambda layers: layers * (layers + 1) / 2,
)
