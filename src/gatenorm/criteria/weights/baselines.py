"""Rankings that look at no weight: what a criterion must beat."""

from __future__ import annotations

import hashlib

from gatenorm.criteria.weights.compute import Backend
from gatenorm.families import AttentionWeights


def depth(weights: AttentionWeights, backend: Backend) -> float:
    """The number of blocks from this one to the end: ``layers - layer``, so that the last layers go first."""
    return float(weights.layout.layers - weights.layer)


def random(weights: AttentionWeights, backend: Backend, seed: int = 0) -> float:
    """A number in ``[0, 1)`` that depends on the seed and the layer only, on every machine and version the same.

    ``sha256("gatenorm seed layer")``, its first 53 bits as a fraction.
    """
    digest = hashlib.sha256(f"gatenorm {seed} {weights.layer}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53
