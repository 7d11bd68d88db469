"""An operation: a fitted linear map of rank 8 in an attention's place."""

from __future__ import annotations

from typing import Any

from gatenorm.records import ATTENTION
from gatenorm.surgery.operation import LeastSquares, Operation, Solution

RANK = 8


def update(x: Any, weights: Any) -> Any:
    """``up down x`` with ``down`` [8, width] and ``up`` [width, 8]."""
    from torch.nn.functional import linear

    return linear(linear(x, weights["down"]), weights["up"])


def fit(problem: LeastSquares) -> Solution:
    """The two factors from least squares."""
    up, down = problem.low_rank(RANK)
    return {"down": down, "up": up}


OPERATION = Operation(
    summary="a linear map of rank 8",
    participle="replaced by a map of rank 8",
    sublayers=(ATTENTION,),
    update=update,
    normed=True,
    shapes=lambda width: {"down": (RANK, width), "up": (width, RANK)},
    fit=fit,
    exports={"gguf": "llama.cpp has no product of two matrices there"},
)
