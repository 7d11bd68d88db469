"""How far attention, or the MLP, turns the residual stream."""

from gatenorm.criteria.criterion import ForwardCriterion, Measured
from gatenorm.criteria.streams import StreamStatistics
from gatenorm.records import ATTENTION, MLP


def cosine(seen: StreamStatistics, kind: str = ATTENTION) -> dict[int, float]:
    """``1 - mean cos(X, X + U)`` over all positions, by layer; of MLPs with the stream ``X`` that they find.

    Source: attention drop and MLP drop in He et al., "What Matters in Transformers? Not All Attention is Needed"
    (arXiv 2406.15786), which ranks both in one.
    """
    turned = (
        {layer: seen.sums[layer].mlp_turn for layer in seen.mlps}
        if kind == MLP
        else {layer: seen.sums[layer].turn for layer in seen.layers}
    )
    return {layer: float(turn) / seen.positions for layer, turn in turned.items()}


CRITERION = ForwardCriterion(
    summary="how far the sublayer turns the stream, 1 - mean cos(X, X + U)",
    kinds=(ATTENTION, MLP),
    damage=True,
    measure=lambda run: Measured(cosine(run.observe(), run.kind)),
    layer_by_layer=True,
)
