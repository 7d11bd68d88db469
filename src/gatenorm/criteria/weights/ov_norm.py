"""How strongly an attention branch can write at all."""

from gatenorm.criteria.compute.backend import Backend, Float64, paired_norms
from gatenorm.criteria.criterion import WeightCriterion
from gatenorm.families import AttentionWeights


def ov_norm(weights: AttentionWeights, backend: Backend) -> Float64:
    """The norm of every head's path from value to output, ``[heads]``; the score is the root of their sum of squares.

    ``|| Wo[:, h] Wv[g(h)] ||_F = sqrt < Wo[:, h]^T Wo[:, h], Wv[g] Wv[g]^T >`` with ``Wo[:, h] [width, head_dim]`` and
    ``Wv[g] [head_dim, width]``.

    Source: docs/criteria.md; the OV circuit is that of Elhage et al., "A Mathematical Framework for
    Transformer Circuits" (2021).
    """
    return paired_norms(backend.head_grams(weights.o), backend.head_grams(weights.v))


CRITERION = WeightCriterion(
    summary="how strongly the branch can write, Wo Wv per head",
    formula=ov_norm,
    reads=("v", "o"),
)
