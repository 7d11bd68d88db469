"""The last layers first: the baseline that a criterion must beat."""

from gatenorm.criteria.compute.backend import Backend
from gatenorm.criteria.criterion import EVERY_KIND, WeightCriterion
from gatenorm.families import AttentionWeights


def depth(weights: AttentionWeights, backend: Backend) -> float:
    """The number of blocks from this one to the end: ``layers - layer``, so that the last layers go first."""
    return float(weights.layout.layers - weights.layer)


CRITERION = WeightCriterion(
    summary="the last layers first",
    formula=depth,
    kinds=EVERY_KIND,
)
