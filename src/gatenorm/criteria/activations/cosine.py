"""How far attention turns the residual stream."""

from __future__ import annotations

from gatenorm.criteria.criterion import stream_criterion
from gatenorm.criteria.streams import StreamStatistics


def cosine(seen: StreamStatistics) -> dict[int, float]:
    """``1 - mean cos(X, X + U)`` over all positions, by layer.

    Source: He et al., "What Matters in Transformers? Not All Attention is Needed" (arXiv 2406.15786).
    """
    return {layer: float(seen.sums[layer].turn) / seen.positions for layer in seen.layers}


CRITERION = stream_criterion(
    cosine,
    summary="how far attention turns the stream, 1 - mean cos(X, X + U)",
)
