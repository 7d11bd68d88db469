"""How far attention turns the residual stream."""

from __future__ import annotations

from gatenorm.criteria.activations.mlp_cosine import mlp_cosine
from gatenorm.criteria.criterion import ForwardCriterion, Measured, Run
from gatenorm.criteria.streams import StreamStatistics
from gatenorm.records import ATTENTION, MLP


def cosine(seen: StreamStatistics) -> dict[int, float]:
    """``1 - mean cos(X, X + U)`` over all positions, by layer.

    Source: He et al., "What Matters in Transformers? Not All Attention is Needed" (arXiv 2406.15786).
    """
    return {layer: float(seen.sums[layer].turn) / seen.positions for layer in seen.layers}


def _measure(run: Run) -> Measured:
    """Of MLPs the same, as ``mlp-cosine`` says it; LLM-Drop ranks both in one (arXiv 2406.15786)."""
    return Measured((mlp_cosine if run.kind == MLP else cosine)(run.observe()))


CRITERION = ForwardCriterion(
    summary="how far the sublayer turns the stream, 1 - mean cos(X, X + U)",
    kinds=(ATTENTION, MLP),
    damage=True,
    measure=_measure,
    layer_by_layer=True,
)
