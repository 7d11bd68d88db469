"""A linear map in an attention's place: ``update(x) = A x`` with ``x`` the normed input, one product a token, no cache.

``linear:64`` stores ``A`` as a product of two matrices of rank 64. There is no intercept: engines that know a linear
layer in an attention's place (llama.cpp's ``deci``, MLX-LM's Nemotron-NAS) give it none, and the normed input has
channels that hardly vary, which do its work.
"""

from dataclasses import replace
from typing import Any

from gatenorm.errors import PlanError
from gatenorm.records import ATTENTION
from gatenorm.surgery.operation import ExportEntry, LeastSquares, Operation, Shapes, Solution


def update(x: Any, weights: Any) -> Any:
    """``matrix`` [width, width], or ``up`` [width, rank] and ``down`` [rank, width], applied to every token."""
    from torch.nn.functional import linear

    if "matrix" in weights:
        return linear(x, weights["matrix"])
    return linear(linear(x, weights["down"]), weights["up"])


def at_rank(rank: int) -> Operation:
    """The same with ``A`` of that rank."""

    def shapes(width: int) -> Shapes:
        if rank >= width:
            raise PlanError(
                "rank-out-of-range",
                "has too high a rank",
                field="replace",
                given=f"linear:{rank}",
                expected=f"1 to {width - 1}",
                hint="plain linear has full rank",
            )
        return {"down": (rank, width), "up": (width, rank)}

    def fit(problem: LeastSquares) -> Solution:
        up, down = problem.low_rank(rank)
        return {"down": down, "up": up}

    note = f"the map of rank {rank} is written as the full matrix that it is the product of, and costs as much as one"
    low = {
        form: replace(entry, tensors={}, products={("up", "down"): name}, note=note)
        for form, entry in EXPORTS.items()
        for name in entry.tensors.values()
    }
    return replace(OPERATION, shapes=shapes, fit=fit, exports=low)


EXPORTS = {
    "gguf": ExportEntry({}, {"matrix": "attn_output.weight"}),
    # MLX-LM reads a linear map in the attention's place too, but then expects keys of it: batches fail.
    "nemotron-nas": ExportEntry(
        {"no_op": False, "replace_with_linear": True},
        {"matrix": "mlp.linear.weight"},
        own_block=True,
        engines=("vLLM", "MLX-LM"),
    ),
}


OPERATION = Operation(
    summary="apply a fitted linear map to the normed input",
    participle="replaced by a linear map",
    sublayers=(ATTENTION,),
    update=update,
    normed=True,
    shapes=lambda width: {"matrix": (width, width)},
    at_rank=at_rank,
    fit=lambda problem: {"matrix": problem.linear()},
    exports=EXPORTS,
)
