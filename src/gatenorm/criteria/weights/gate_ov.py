"""How strongly a head can choose, times how strongly it can write."""

from gatenorm.criteria.compute.backend import Backend, Float64
from gatenorm.criteria.criterion import WeightCriterion
from gatenorm.criteria.weights.gate_norm_heads import gate_norm_heads
from gatenorm.criteria.weights.ov_norm import ov_norm
from gatenorm.families import AttentionWeights


def gate_ov(weights: AttentionWeights, backend: Backend) -> Float64:
    """Gate norm times OV norm of every head, ``[heads]``; the score is the root of their sum of squares.

    ``|| Wq[h]^T Wk[g(h)] ||_F * || Wo[:, h] Wv[g(h)] ||_F``.

    Source: docs/criteria.md.
    """
    return gate_norm_heads(weights, backend) * ov_norm(weights, backend)


CRITERION = WeightCriterion(
    summary="gate norm times OV norm, per head",
    formula=gate_ov,
    reads=("q", "k", "v", "o"),
    gate=True,
)
