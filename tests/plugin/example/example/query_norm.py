"""A criterion from weights: the norm of the query projection."""

from __future__ import annotations

import numpy as np

from gatenorm.criteria.compute.backend import Backend
from gatenorm.criteria.criterion import WeightCriterion
from gatenorm.families import AttentionWeights


def query_norm(weights: AttentionWeights, backend: Backend) -> float:
    """``|| Wq ||_F``."""
    return float(np.linalg.norm(weights.q.float32()))


CRITERION = WeightCriterion(summary="norm of the query projection", formula=query_norm, reads=("q",))
