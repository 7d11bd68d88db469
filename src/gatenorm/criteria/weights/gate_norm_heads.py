"""The gate norm head by head."""

from __future__ import annotations

import numpy as np

from gatenorm.criteria.weights.compute import Backend, Float64
from gatenorm.families import AttentionWeights


def gate_norm_heads(weights: AttentionWeights, backend: Backend) -> Float64:
    """The gate norm of every query head, ``[heads]``; the layer's score is the root of their sum of squares.

    ``m_h = || Wq[h]^T Wk[g(h)] ||_F = sqrt < Wq[h] Wq[h]^T, Wk[g] Wk[g]^T >`` with Gram matrices
    ``[head_dim, head_dim]``. Heads have separate softmaxes, so this is the form that the paper's bound speaks about.

    Source: arXiv 2512.20636, applied to each head.
    """
    return paired_norms(backend.head_grams(weights.q), backend.head_grams(weights.k))


def paired_norms(grams: Float64, kv_grams: Float64) -> Float64:
    """``|| A[h]^T B[g(h)] ||_F`` of every head from Gram matrices ``[heads, n, n]`` and ``[kv_heads, n, n]``."""
    group = grams.shape[0] // kv_grams.shape[0]
    energies = np.einsum("hij,hij->h", grams, np.repeat(kv_grams, group, axis=0))
    # Rounding can take a norm of zero to a little below it.
    norms: Float64 = np.sqrt(np.maximum(energies, 0.0))
    return norms
