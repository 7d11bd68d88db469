"""How far a whole block turns the residual stream."""

from gatenorm.criteria.criterion import stream_criterion
from gatenorm.criteria.streams import StreamStatistics
from gatenorm.records import BLOCK


def block_cosine(seen: StreamStatistics) -> dict[int, float]:
    """``1 - mean cos(X, Y)`` with the streams ``X`` and ``Y`` that enter and leave the whole block, by layer that
    still has both sublayers.

    Source: block influence in Men et al., "ShortGPT" (arXiv 2403.03853).
    """
    whole = [layer for layer in seen.layers if layer in set(seen.mlps)]
    return {layer: float(seen.sums[layer].block_turn) / seen.positions for layer in whole}


CRITERION = stream_criterion(
    block_cosine,
    summary="how far the whole block turns the stream",
    kinds=(BLOCK,),
    note="block-cosine speaks of whole blocks: beside criteria of attention, as in a curve, their attention alone goes",
)
