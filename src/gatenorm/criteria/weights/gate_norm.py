"""The gate norm of Saikumar & Varghese (arXiv 2512.20636)."""

from gatenorm.criteria.compute.backend import Backend
from gatenorm.criteria.criterion import WeightCriterion
from gatenorm.families import AttentionWeights


def gate_norm(weights: AttentionWeights, backend: Backend) -> float:
    """The Frobenius norm of the layer's gate matrix.

    ``m = || sum_h Wq[h]^T Wk[g(h)] ||_F``, with ``Wq[h]``, ``Wk[g]`` ``[head_dim, width]`` as stored, ``g(h)`` the key
    head that query head ``h`` reads, the gate matrix ``[width, width]``. Biases, logit scale, softcap and positions are
    not part of it.

    Source: arXiv 2512.20636; repeating key heads for grouped queries is this project's reading.
    """
    return backend.product_norm(weights.q, weights.k, "rows")


CRITERION = WeightCriterion(
    summary="norm of the gate matrix, sum over heads of Wq^T Wk",
    formula=gate_norm,
    reads=("q", "k"),
    gate=True,
)
