"""Removing sublayers from a loaded model: for a while by swapping blocks, or in a copy that shares its tensors."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gatenorm.families import Layout
from gatenorm.models.forward import blocks_of
from gatenorm.records import ATTENTION, KINDS, REMOVE, Edits
from gatenorm.surgery.config import block_description

if TYPE_CHECKING:
    from torch import nn


def pruned_copy(
    module: Any, layout: Layout, layers: Collection[int], kind: str = ATTENTION, *, in_place: bool = False
) -> Any:
    """What loading the checkpoint without these sublayers would give.

    The modules are copied and pruned by the surgery that writes checkpoints; parameters and buffers are shared.

    Args:
        layers: original numbers.
        in_place: prune ``module`` itself, as must be done where accelerate has put hooks on it.

    Raises:
        PlanError: as :func:`gatenorm.surgery.live.edit_model`.
    """
    from gatenorm.surgery.live import edit_model

    if not in_place:
        module = copy.deepcopy(module, {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())})
    return edit_model(module, Edits.of(kind, layers), layout.data)


class BlockSwap:
    """Puts edited blocks in the place of a model's own, and the model's own back.

    An edited block is what surgery makes of the block, with the same tensors in what stays: the logits are those of
    the pruned checkpoint. Without a key/value cache only.
    """

    def __init__(self, module: Any, layout: Layout):
        self.module = module
        self._places = blocks_of(module, layout)
        self._blocks = list(self._places)
        self._shape = block_description(layout.data)
        self._edited: dict[tuple[int, str], nn.Module] = {}

    @contextmanager
    def without(self, layers: Collection[int], kind: str = ATTENTION) -> Iterator[Any]:
        """The module without the sublayers of that kind of ``layers`` (original numbers); as it was afterwards."""
        try:
            for layer in layers:
                self._places[layer] = self._without(layer, kind)
            yield self.module
        finally:
            for layer in layers:
                self._places[layer] = self._blocks[layer]

    def _without(self, layer: int, kind: str) -> nn.Module:
        from gatenorm.surgery import modeling_gatenorm as modeling

        if (layer, kind) not in self._edited:
            block = self._blocks[layer]
            edited = copy.copy(block)
            # A shallow copy shares the table of submodules, out of which surgery takes what goes.
            edited._modules = dict(block._modules)
            hook = _take_off_accelerate(edited)
            modeling.edit_block(edited, self._shape, self.module.config, dict.fromkeys(KINDS[kind], REMOVE), {})
            if hook is not None:
                from accelerate.hooks import add_hook_to_module

                add_hook_to_module(edited, hook)
            self._edited[layer, kind] = edited
        return self._edited[layer, kind]


def _take_off_accelerate(block: Any) -> Any:
    """Undo what accelerate does to the blocks of a model that is spread over devices: its ``forward`` would still be
    the whole block's. Returns the hook, to be put on again.
    """
    hook = block.__dict__.pop("_hf_hook", None)
    for name in ("forward", "_old_forward"):
        block.__dict__.pop(name, None)
    return hook
