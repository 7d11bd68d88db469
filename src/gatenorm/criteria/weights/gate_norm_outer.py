"""The literal reading of the paper's formula on stored weights."""

from gatenorm.criteria.compute.backend import Backend
from gatenorm.criteria.criterion import WeightCriterion
from gatenorm.families import AttentionWeights


def gate_norm_outer(weights: AttentionWeights, backend: Backend) -> float:
    """The Frobenius norm of all query rows times all key rows.

    ``|| Wq Wk^T ||_F`` with ``Wq [heads * head_dim, width]`` and ``Wk [kv_heads * head_dim, width]`` as stored, key
    heads not repeated: it mixes heads with each other, and is not the gate norm.

    Source: arXiv 2512.20636, whose formula is written for weights that multiply from the right, read to the letter.
    """
    return backend.product_norm(weights.q, weights.k, "width")


CRITERION = WeightCriterion(
    summary="the literal Wq Wk^T, which mixes heads",
    formula=gate_norm_outer,
    reads=("q", "k"),
    gate=True,
)
