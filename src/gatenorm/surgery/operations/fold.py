"""An attention removed, and what it did folded into the MLP in front of it: no tensor more, no product more.

The output projection ``W`` of that MLP becomes ``W + dW``, with ``dW`` the least squares map from the MLP's hidden
units to what the attention added; where the projection has a bias, the intercept goes into it. Which MLP that is, and
which families have one: see :mod:`gatenorm.surgery.folding`. To every engine the result is a plain removal.
"""

from gatenorm.records import ATTENTION
from gatenorm.surgery.operation import LeastSquares, Operation, Solution


def fit(problem: LeastSquares) -> Solution:
    """``matrix`` [width, inner], and ``bias`` [width] where there is one to add it to."""
    if not problem.intercept:
        return {"matrix": problem.linear()}
    matrix, bias = problem.affine()
    return {"matrix": matrix, "bias": bias}


OPERATION = Operation(
    summary="remove the sublayer and fold what it did into the MLP in front of it",
    participle="folded into the MLP in front of it",
    sublayers=(ATTENTION,),
    folded=True,
    fit=fit,
)
