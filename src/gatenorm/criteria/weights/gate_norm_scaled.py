"""The gate norm in the units of the logits."""

import numpy as np

from gatenorm.criteria.compute.backend import Backend, Float64, paired_norms
from gatenorm.criteria.criterion import WeightCriterion
from gatenorm.errors import CriterionError
from gatenorm.families import AttentionWeights


def gate_norm_scaled(weights: AttentionWeights, backend: Backend) -> Float64:
    """The gate norm of every query head on normed inputs, ``[heads]``; the score is the root of their sum of squares.

    ``m_h = s || diag(gamma) Wq[h]^T Wk[g(h)] diag(gamma) ||_F`` with the input norm's gain ``gamma [width]`` (1 where
    there is no input norm) and the layer's logit scale ``s`` (see :meth:`Layout.logit_scale`).

    Where the model norms queries and keys, their weights carry no scale, and the value is the bound on a logit
    ``s sqrt(n_q n_k) max|gamma_q| max|gamma_k|`` over the head's part of the gains; ``n`` is the number of components
    that one norm spans. That is ``s head_dim max|gamma_q| max|gamma_k|`` for a norm of each head (Qwen3); a norm over
    all heads (OLMo-2) lets one head have the length of all of them.

    Raises:
        CriterionError: the checkpoint lacks the gain of a norm that the family has.

    Source: docs/criteria.md, after arXiv 2512.20636.
    """
    lay, scale = weights.layout, weights.layout.logit_scale(weights.layer)
    if weights.normed:
        gain_q, gain_k = _gain(weights, "q"), _gain(weights, "k")
        largest_q = _largest(gain_q, lay.heads, lay.head_dim)
        largest_k = np.repeat(_largest(gain_k, lay.kv_heads, lay.head_dim), lay.heads // lay.kv_heads)
        bound: Float64 = scale * float(np.sqrt(gain_q.size * gain_k.size)) * largest_q * largest_k
        return bound
    gain = _gain(weights, "input").astype(np.float32) if lay.norms.input else None
    norms: Float64 = scale * paired_norms(backend.head_grams(weights.q, gain), backend.head_grams(weights.k, gain))
    return norms


def _gain(weights: AttentionWeights, norm: str) -> Float64:
    gain = weights.gain(norm)
    if gain is None:
        name = weights.layout.tensor(weights.layer, f"{weights.layout.norms.module(norm)}.weight")
        problem = f"gate-norm-scaled needs the gain of the {norm} norm, and the checkpoint has no tensor {name}"
        raise CriterionError("gain-missing", problem)
    return gain.astype(np.float64)


def _largest(gain: Float64, heads: int, head_dim: int) -> Float64:
    largest: Float64 = np.abs(np.broadcast_to(gain.reshape(-1, head_dim), (heads, head_dim))).max(axis=1)
    return largest


CRITERION = WeightCriterion(
    summary="per head, with norm gains and logit scale",
    formula=gate_norm_scaled,
    reads=("q", "k"),
    gate=True,
    gains=True,
)
