"""Training what stands in the place of sublayers: the tensors of fitted operations, whole and in float32."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gatenorm.families import Layout
from gatenorm.surgery.operation import added_tensors, place


class TrainedOperation(nn.Module):
    """An operation with tensors that are trained: float32, whatever the model computes in."""

    def __init__(self, operation: Any):
        super().__init__()
        self.update = operation.update
        for name, tensor in operation.named_parameters():
            self.register_parameter(name, nn.Parameter(tensor.detach().to(torch.float32, copy=True)))

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``update(x, weights)`` in the type of ``x`` [batch, tokens, width]."""
        updated: Tensor = self.update(x, {name: tensor.to(x.dtype) for name, tensor in self.named_parameters()})
        return updated


@dataclass(frozen=True)
class Trained:
    """A tensor that was trained as it is."""

    tensor: Tensor

    def on(self, weight: Tensor) -> Tensor:
        """Its values, in the place of ``weight``, float32."""
        return self.tensor.detach().float().cpu()


def train_maps(model: Any, layout: Layout) -> dict[str, Trained]:
    """Make the operations in a live model trainable; returns their tensors by stored name, none where there are none.

    Args:
        model: the causal language model of the checkpoint, without adapters around it; changed in place.
    """
    tensors = {}
    for stored, (edit, name, _) in added_tensors(layout, layout.edits).items():
        path = f"{layout.block.path}.{edit.layer}.{place(layout.data, edit.sublayer)}"
        operation = model.get_submodule(path)
        if not isinstance(operation, TrainedOperation):
            operation = TrainedOperation(operation)
            model.set_submodule(path, operation)
        tensors[stored] = Trained(getattr(operation, name))
    return tensors
