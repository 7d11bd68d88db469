"""Norms of products of two heads' matrices, from their Gram matrices."""

from __future__ import annotations

import numpy as np

from gatenorm.criteria.compute.backend import Float64


def paired_norms(grams: Float64, kv_grams: Float64) -> Float64:
    """``|| A[h]^T B[g(h)] ||_F`` of every head from Gram matrices ``[heads, n, n]`` and ``[kv_heads, n, n]``."""
    group = grams.shape[0] // kv_grams.shape[0]
    energies = np.einsum("hij,hij->h", grams, np.repeat(kv_grams, group, axis=0))
    # Rounding can take a norm of zero to a little below it.
    norms: Float64 = np.sqrt(np.maximum(energies, 0.0))
    return norms
