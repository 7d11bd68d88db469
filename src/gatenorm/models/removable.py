"""One loaded model, with and without any of its sublayers: blocks change places, nothing is copied."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gatenorm.families import Layout, mlp_modules
from gatenorm.models.forward import blocks_of
from gatenorm.records import ATTENTION, KINDS

if TYPE_CHECKING:
    from torch import nn


class Removable:
    """A causal language model whose sublayers can be taken out and put back at no cost.

    In the place of a block stands, meanwhile, what surgery makes of it, with the same tensors in what stays: what is
    taken out is not computed, and the logits are those of the pruned checkpoint. Without a key/value cache only.
    """

    def __init__(self, model: Any, layout: Layout):
        self.model = model
        self._places = blocks_of(model, layout)
        self._blocks = list(self._places)
        self._shape = {**layout.block, "mlp": mlp_modules(layout.data)}
        self._less: dict[tuple[int, str], nn.Module] = {}

    @contextmanager
    def without(self, layers: Collection[int], kind: str = ATTENTION) -> Iterator[Any]:
        """The model without the sublayers of that kind of ``layers`` (original numbers); as it was afterwards."""
        try:
            for layer in layers:
                self._places[layer] = self._without(layer, kind)
            yield self.model
        finally:
            for layer in layers:
                self._places[layer] = self._blocks[layer]

    def _without(self, layer: int, kind: str) -> nn.Module:
        from gatenorm.surgery import modeling_gatenorm as modeling

        if (layer, kind) not in self._less:
            block = self._blocks[layer]
            twin = copy.copy(block)
            # A shallow copy shares the table of submodules, out of which surgery takes what goes.
            twin._modules = dict(block._modules)
            hook = _without_accelerate(twin)
            modeling.remove_sublayers(twin, self._shape, self.model.config, KINDS[kind])
            if hook is not None:
                from accelerate.hooks import add_hook_to_module

                add_hook_to_module(twin, hook)
            self._less[layer, kind] = twin
        return self._less[layer, kind]


def _without_accelerate(twin: Any) -> Any:
    """Take off what accelerate puts on the blocks of a model that is spread over devices: a ``forward`` of its own,
    which would still be the whole block's. Returns the hook, to be put on again.
    """
    hook = twin.__dict__.pop("_hf_hook", None)
    for name in ("forward", "_old_forward"):
        twin.__dict__.pop(name, None)
    return hook
