"""How long attention's update is beside the stream."""

from gatenorm.criteria.criterion import stream_criterion
from gatenorm.criteria.streams import StreamStatistics


def norm_ratio(seen: StreamStatistics) -> dict[int, float]:
    """``sum |U| / sum |X|`` over all positions, by layer.

    Source: Saikumar & Varghese (arXiv 2512.20636), appendix.
    """
    return {layer: float(seen.sums[layer].update / seen.sums[layer].stream) for layer in seen.layers}


CRITERION = stream_criterion(
    norm_ratio,
    summary="how long attention's update is, sum |U| / sum |X|",
)
