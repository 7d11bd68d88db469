"""The plainest weight-only baseline."""

import math

import numpy as np

from gatenorm.criteria.compute.backend import Backend
from gatenorm.criteria.criterion import WeightCriterion
from gatenorm.families import AttentionWeights


def weight_magnitude(weights: AttentionWeights, backend: Backend) -> float:
    """The Frobenius norm of all four projections together.

    ``sqrt( ||Wq||^2 + ||Wk||^2 + ||Wv||^2 + ||Wo||^2 )``, biases left out.

    Source: magnitude pruning, taken for whole sublayers.
    """
    energy = 0.0
    for projection in (weights.q, weights.k, weights.v, weights.o):
        for head in range(projection.heads):
            # Row by row in float32, the rows in float64: no row is long enough to lose digits.
            w = projection.head(head)
            energy += float(np.vecdot(w, w).sum(dtype=np.float64))
    return math.sqrt(energy)


CRITERION = WeightCriterion(
    summary="norm of all four projections",
    formula=weight_magnitude,
    reads=("q", "k", "v", "o"),
    added=True,
)
