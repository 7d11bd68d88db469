"""Folding: what an attention adds, as far as an MLP can add it, goes into that MLP's output projection.

That projection puts out ``W h`` [width] for the hidden units ``h`` [inner] of a token. In sequential blocks the update
of the attention of layer ``l`` belongs in front of the MLP of its block, which is behind the MLP of block ``l - 1``:
that one carries it. In parallel blocks attention and MLP read the same stream, and the MLP of the same block carries
it. Either way ``(W + dW) h`` is added at the very place of the update, and the model stays as large as after removal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint import NewTensor, TensorStore
from gatenorm.checkpoint.dtypes import STORAGE_TYPES, from_float32
from gatenorm.checkpoint.parts import computed
from gatenorm.errors import PlanError, named
from gatenorm.families import Layout
from gatenorm.families.schema import Family
from gatenorm.records import Edit, Edits
from gatenorm.surgery.operation import Weights, operation_named

if TYPE_CHECKING:
    from torch import nn

Float32 = npt.NDArray[np.float32]


def folds(edits: Edits) -> Edits:
    """Those of the edits that are folded into an MLP."""
    return Edits(edit for edit in edits if operation_named(edit.operation).folded)


def carrier(data: Family, layer: int) -> int:
    """The layer whose MLP carries what is folded of the attention of ``layer``; -1 where there is none."""
    return layer if data.shape == "parallel" else layer - 1


def carried(data: Family, edits: Edits, layer: int) -> tuple[Edit, ...]:
    """The edits that are folded into the MLP of one layer."""
    return tuple(edit for edit in folds(edits) if carrier(data, edit.layer) == layer)


def changed_layers(data: Family, edits: Edits) -> tuple[int, ...]:
    """The layers whose blocks are others with these edits: those that are edited, and those that carry a fold."""
    return tuple(sorted({*edits.layers, *(carrier(data, edit.layer) for edit in folds(edits))}))


def projection(data: Family) -> str:
    """The submodule of a block that is its MLP's output projection."""
    assert data.mlp is not None  # see check_foldable
    return data.mlp.down


def inner_width(layout: Layout, layer: int) -> int:
    """How many hidden units the MLP that carries the attention of ``layer`` has."""
    shape = layout.checkpoint.spec(_stored(layout, layer, "weight")).shape
    return shape[0 if layout.roles.transposed else 1]


def has_bias(layout: Layout, layer: int) -> bool:
    """Whether the output projection that carries the attention of ``layer`` has a bias, which takes an intercept."""
    return _stored(layout, layer, "bias") in layout.checkpoint


def check_folds(data: Family, before: Edits, new: Edits) -> None:
    """Raise PlanError for what cannot be folded into an MLP: the family's MLPs cannot carry it, or the one that would
    is not there.
    """
    for edit in folds(new):
        check_foldable(data, edit.operation)
        layer = carrier(data, edit.layer)
        if layer < 0:
            problem = f"has no MLP in front of it to carry what its attention does, which {edit.operation} needs"
            hint = f"{named('protect')} {edit.layer}, or replace it by something else"
            raise PlanError("fold-without-mlp", problem, field="drop", given=edit.layer, hint=hint)
        if layer in {*before.mlp, *new.mlp}:
            problem = f"cannot be folded: the MLP of layer {layer}, which would carry it, is edited too"
            raise PlanError("fold-without-mlp", problem, field="drop", given=edit.layer)


def check_foldable(data: Family, operation: str) -> None:
    """Raise PlanError, with the reason, for a folded operation where a family's MLPs cannot carry one."""
    if not operation_named(operation).folded:
        return
    why = None
    if data.shape not in ("sequential", "parallel"):
        why = f"a norm stands behind the MLPs of {data.shape} blocks"
    elif data.mlp is None:
        why = "its MLPs have no single output projection"
    if why:
        raise PlanError(
            "fold-impossible", f"is not possible in {data.model_type}: {why}", field="replace", given=operation
        )


def as_stored(data: Family, weights: Weights) -> dict[str, Float32]:
    """What is added to the projection's ``weight`` and ``bias``, the way round that the family stores them."""
    matrix = weights["matrix"]
    added = {"weight": matrix.T if data.roles.transposed else matrix}
    return added | ({"bias": weights["bias"]} if "bias" in weights else {})


def folded_tensors(layout: Layout, edits: Edits, weights: Mapping[Edit, Weights]) -> dict[str, NewTensor]:
    """The tensors of the checkpoint that folded edits change, by name; each is computed when it is written.

    Raises:
        PlanError: tensors of another shape than the projection's.
        CheckpointError: a projection of a type that nothing can be added to.
    """
    return {
        (name := _stored(layout, edit.layer, kind)): _changed(layout.checkpoint, name, values)
        for edit in folds(edits)
        for kind, values in as_stored(layout.data, weights[edit]).items()
    }


def _stored(layout: Layout, layer: int, kind: str) -> str:
    return layout.tensor(carrier(layout.data, layer), f"{projection(layout.data)}.{kind}")


def _changed(checkpoint: TensorStore, name: str, values: Float32) -> NewTensor:
    stored = checkpoint.spec(name)
    _check_shape(name, values.shape, stored.shape)
    from_float32(np.zeros(0, np.float32), stored.dtype)  # refuses types that nothing can be added to

    def make() -> bytes:
        return from_float32(checkpoint.float32(name) + values, stored.dtype, name).tobytes()

    nbytes = int(np.prod(stored.shape)) * STORAGE_TYPES[stored.dtype].itemsize
    return NewTensor(name, stored.dtype, stored.shape, (computed(nbytes, make),))


def folded_parameters(module: nn.Module, data: Family, weights: Weights) -> dict[str, nn.Parameter]:
    """What the parameters of a live projection become; those that it has may be shared, and stay as they are.

    Raises:
        PlanError: tensors of another shape than the projection's.
    """
    import torch
    from torch import nn

    made = {}
    for name, values in as_stored(data, weights).items():
        old = getattr(module, name)
        _check_shape(name, values.shape, () if old is None else tuple(old.shape))
        added = torch.from_numpy(np.ascontiguousarray(values)).to(old.device)
        made[name] = nn.Parameter((old.detach().float() + added).to(old.dtype), requires_grad=old.requires_grad)
    return made


def _check_shape(name: str, given: tuple[int, ...], stored: tuple[int, ...]) -> None:
    if given != stored:
        problem = f"to fold into {name} have shape {list(given)}"
        raise PlanError("operation-tensors-wrong", problem, field="weights", expected=f"{list(stored)}")
