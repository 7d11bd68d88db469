"""A seeded random ranking: the baseline that a criterion must beat."""

import hashlib

from gatenorm.criteria.compute.backend import Backend
from gatenorm.criteria.criterion import EVERY_KIND, WeightCriterion
from gatenorm.families import AttentionWeights


def random(weights: AttentionWeights, backend: Backend, seed: int = 0) -> float:
    """A number in ``[0, 1)`` that depends on the seed and the layer only, on every machine and version the same.

    ``sha256("gatenorm seed layer")``, its first 53 bits as a fraction.
    """
    digest = hashlib.sha256(f"gatenorm {seed} {weights.layer}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53


CRITERION = WeightCriterion(
    summary="a seeded draw",
    formula=random,
    seeded=True,
    kinds=EVERY_KIND,
)
