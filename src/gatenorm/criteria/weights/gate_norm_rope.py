"""The gate norm of a rotary model, averaged over the distances that it was trained on."""

import numpy as np
import numpy.typing as npt

from gatenorm.criteria.compute.backend import Backend, Float64
from gatenorm.criteria.criterion import WeightCriterion
from gatenorm.errors import CriterionError
from gatenorm.families import AttentionWeights, Rotary

Complex128 = npt.NDArray[np.complex128]
Indices = npt.NDArray[np.int64]


def gate_norm_rope(weights: AttentionWeights, backend: Backend) -> Float64:
    """The rotary gate norm of every query head, ``[heads]``; the score is the root of their sum of squares.

    ``m_h^2 = mean over delta = 0..T-1 of || Wq[h]^T R_delta Wk[g(h)] ||_F^2``, ``T`` the training context and
    ``R_delta`` the rotation between two positions ``delta`` apart. With complex rows ``q_j = Wq[j] + i Wq[j']``
    (``j'`` the rotary partner), ``k_j`` likewise, pair frequencies ``theta_j`` and
    ``C(w) = mean_delta exp(-i w delta)``:

        m_h^2 = 1/2 Re sum_jl [ C(theta_j - theta_l) conj(q_j q_l^H) (k_j k_l^H)
                              + C(theta_j + theta_l) conj(q_j q_l^T) (k_j k_l^T) ]

    All products of rows are entries of the heads' Gram matrices. Dimensions that do not turn have frequency 0.

    Raises:
        CriterionError: the model is not rotary, does not say its context, or has a rope type that is not known.

    Source: docs/criteria.md.
    """
    lay, rotary = weights.layout, weights.layout.rotary_of(weights.layer)
    if lay.rotary is None:
        raise CriterionError(
            "rotary-missing",
            f"gate-norm-rope needs rotary positions, which this {lay.model_type} model does not have",
            hint="use gate-norm-heads",
        )
    context = lay.rotary.context or lay.context
    if not context:
        problem = "gate-norm-rope needs the training context, and config.json has no max_position_embeddings"
        raise CriterionError("context-missing", problem)
    pairs = _pairs(rotary, lay.head_dim)
    turning = np.zeros(0) if rotary is None else rotary.frequencies()
    frequencies = np.concatenate([turning, np.zeros(len(pairs[0]) - turning.size)])
    minus, plus = _pair_products(backend.head_grams(weights.q), *pairs)
    kv_minus, kv_plus = _pair_products(backend.head_grams(weights.k), *pairs)
    mean_minus = mean_phase(frequencies[:, None] - frequencies, context)
    mean_plus = mean_phase(frequencies[:, None] + frequencies, context)
    group = weights.q.heads // weights.k.heads
    energies = np.empty(weights.q.heads)
    for head in range(weights.q.heads):
        terms = mean_minus * minus[head].conj() * kv_minus[head // group]
        terms += mean_plus * plus[head].conj() * kv_plus[head // group]
        energies[head] = 0.5 * terms.sum().real
    # Rounding can take a norm of zero to a little below it.
    norms: Float64 = np.sqrt(np.maximum(energies, 0.0))
    return norms


def mean_phase(w: Float64, context: int) -> Complex128:
    """``C(w)``, the mean of ``exp(-i w delta)`` over ``delta = 0..context-1``, for ``w`` in radians a position."""
    half = np.remainder(w + np.pi, 2 * np.pi) / 2 - np.pi / 2
    small = np.abs(half) < 1e-12
    ratio = np.sin(context * half) / (context * np.sin(np.where(small, 1.0, half)))
    mean: Complex128 = np.exp(-1j * (context - 1) * half) * np.where(small, 1.0, ratio)
    return mean


def _pairs(rotary: Rotary | None, head_dim: int) -> tuple[Indices, Indices]:
    """The dimensions of all pairs of a head: those that turn, then the rest, paired up among themselves.

    An odd dimension is paired with one that is not there, ``head_dim``.
    """
    turning = (np.arange(0), np.arange(0)) if rotary is None else rotary.partners()
    rest = np.setdiff1d(np.arange(head_dim + head_dim % 2), np.concatenate(turning)).reshape(2, -1)
    return np.concatenate([turning[0], rest[0]]), np.concatenate([turning[1], rest[1]])


def _pair_products(grams: Float64, first: Indices, second: Indices) -> tuple[Complex128, Complex128]:
    """``q_j q_l^H`` and ``q_j q_l^T`` of every head, ``[heads, pairs, pairs]``, from real Gram matrices."""
    if grams.shape[1] % 2:
        grams = np.pad(grams, ((0, 0), (0, 1), (0, 1)))
    aa, bb = grams[:, first[:, None], first], grams[:, second[:, None], second]
    ab = grams[:, first[:, None], second]
    ba = ab.transpose(0, 2, 1)
    return (aa + bb) + 1j * (ba - ab), (aa - bb) + 1j * (ba + ab)


CRITERION = WeightCriterion(
    summary="per head, mean over the rotary distances",
    formula=gate_norm_rope,
    reads=("q", "k"),
    gate=True,
)
