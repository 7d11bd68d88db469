"""How far the MLP turns the residual stream."""

from __future__ import annotations

from gatenorm.criteria.criterion import stream_criterion
from gatenorm.criteria.streams import StreamStatistics
from gatenorm.records import MLP


def mlp_cosine(seen: StreamStatistics) -> dict[int, float]:
    """``1 - mean cos(X, X + U)`` of the MLP, by layer.

    Source: "MLP Drop" in He et al., "What Matters in Transformers? Not All Attention is Needed" (arXiv 2406.15786).
    """
    return {layer: float(seen.sums[layer].mlp_turn) / seen.positions for layer in seen.mlps}


CRITERION = stream_criterion(
    mlp_cosine,
    summary="how far the MLP turns the stream, 1 - mean cos(X, X + U)",
    kinds=(MLP,),
)
