"""One loaded model, with and without the attention of any of its layers: blocks change places, nothing is copied."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gatenorm.calibration.statistics import blocks_of
from gatenorm.families import Layout

if TYPE_CHECKING:
    from torch import nn


class Removable:
    """A causal language model whose attention sublayers can be taken out and put back at no cost.

    In the place of a block stands, meanwhile, what surgery makes of it, with the same MLP and the same tensors: the
    attention is not computed, and the logits are those of the pruned checkpoint. Without a key/value cache only.
    """

    def __init__(self, model: Any, layout: Layout):
        self.model = model
        self._places = blocks_of(model, layout)
        self._blocks = list(self._places)
        self._layout = layout
        self._free: dict[int, nn.Module] = {}

    @contextmanager
    def without(self, layers: Collection[int]) -> Iterator[Any]:
        """The model without the attention of ``layers`` (original numbers); as it was afterwards."""
        try:
            for layer in layers:
                self._places[layer] = self._attention_free(layer)
            yield self.model
        finally:
            for layer in layers:
                self._places[layer] = self._blocks[layer]

    def _attention_free(self, layer: int) -> nn.Module:
        from gatenorm.surgery import modeling_gatenorm as modeling

        if layer not in self._free:
            block = self._blocks[layer]
            twin = copy.copy(block)
            # A shallow copy shares the table of submodules, out of which surgery takes the attention.
            twin._modules = dict(block._modules)
            hook = _without_accelerate(twin)
            modeling.remove_attention(twin, self._layout.block, self.model.config)
            if hook is not None:
                from accelerate.hooks import add_hook_to_module

                add_hook_to_module(twin, hook)
            self._free[layer] = twin
        return self._free[layer]


def _without_accelerate(twin: Any) -> Any:
    """Take off what accelerate puts on the blocks of a model that is spread over devices: a ``forward`` of its own,
    which would still be the one with attention. Returns the hook, to be put on again.
    """
    hook = twin.__dict__.pop("_hf_hook", None)
    for name in ("forward", "_old_forward"):
        twin.__dict__.pop(name, None)
    return hook
