"""A criterion from activations: how much longer the residual stream is than attention's update."""

from __future__ import annotations

from gatenorm.criteria.criterion import stream_criterion
from gatenorm.criteria.streams import StreamStatistics


def share(seen: StreamStatistics) -> dict[int, float]:
    """``sum |U| / (sum |U| + sum |X|)`` by layer."""
    return {
        layer: float(seen.sums[layer].update / (seen.sums[layer].update + seen.sums[layer].stream))
        for layer in seen.layers
    }


CRITERION = stream_criterion(share, summary="attention's share of the stream, sum |U| / (sum |U| + sum |X|)")
