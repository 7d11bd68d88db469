"""A constant in a sublayer's place: ``update(x) = value``, the same for every token.

Fitted, it is the mean of what the sublayer adds to the residual stream.
"""

from typing import Any

from gatenorm.surgery.operation import Operation


def update(x: Any, weights: Any) -> Any:
    """``value`` [width] for every token of ``x`` [batch, tokens, width]."""
    return weights["value"].expand_as(x)


NO_SUCH_THING = "it has no layer that adds a constant"

OPERATION = Operation(
    summary="add the mean of what the sublayer added",
    participle="replaced by a constant",
    update=update,
    shapes=lambda width: {"value": (width,)},
    fit=lambda problem: {"value": problem.constant()},
    exports={"gguf": NO_SUCH_THING, "nemotron-nas": NO_SUCH_THING},
)
