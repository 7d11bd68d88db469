"""The gate norm head by head."""

from gatenorm.criteria.compute.backend import Backend, Float64, paired_norms
from gatenorm.criteria.criterion import WeightCriterion
from gatenorm.families import AttentionWeights


def gate_norm_heads(weights: AttentionWeights, backend: Backend) -> Float64:
    """The gate norm of every query head, ``[heads]``; the layer's score is the root of their sum of squares.

    ``m_h = || Wq[h]^T Wk[g(h)] ||_F = sqrt < Wq[h] Wq[h]^T, Wk[g] Wk[g]^T >`` with Gram matrices
    ``[head_dim, head_dim]``. Heads have separate softmaxes, so this is the form that the paper's bound speaks about.

    Source: arXiv 2512.20636, applied to each head.
    """
    return paired_norms(backend.head_grams(weights.q), backend.head_grams(weights.k))


CRITERION = WeightCriterion(
    summary="gate norms of the heads, root of the sum of squares",
    formula=gate_norm_heads,
    reads=("q", "k"),
    gate=True,
)
