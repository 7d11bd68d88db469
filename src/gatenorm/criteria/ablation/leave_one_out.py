"""The rise in loss when one sublayer alone is removed."""

from collections.abc import Sequence

from gatenorm.criteria.criterion import EVERY_KIND, ForwardCriterion, Losses, Measured
from gatenorm.progress import Progress, part_of


def leave_one_out(losses: Losses, layers: Sequence[int], progress: Progress | None = None) -> dict[int, float]:
    """The rise in loss when the sublayer of one layer alone is removed: ``loss({l}) - loss({})`` by layer, in nats per
    predicted token. Below zero where the model is better off without.

    Args:
        progress: called with (evaluations done, evaluations in all).

    Source: docs/criteria.md; the yardstick for all other criteria.
    """
    whole, *without = losses([(), *((layer,) for layer in layers)], part_of(progress, 0, len(layers) + 1))
    return {layer: loss - whole for layer, loss in zip(layers, without, strict=True)}


CRITERION = ForwardCriterion(
    summary="rise in loss when this sublayer alone is removed",
    measure=lambda run: Measured(
        leave_one_out(run.losses, run.layers, run.progress), "rise in nats per predicted token"
    ),
    kinds=EVERY_KIND,
    damage=True,
    passes=lambda layers: layers + 1.0,
)
