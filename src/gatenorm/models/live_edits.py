"""Editing a loaded model: for a while by swapping blocks, or in a copy that shares its tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gatenorm.families import Layout
from gatenorm.models.forward import blocks_of
from gatenorm.records import Edit, Edits
from gatenorm.surgery.config import block_description
from gatenorm.surgery.operation import Weights, operation_records, place

if TYPE_CHECKING:
    from torch import nn


def edited_copy(
    module: Any, layout: Layout, edits: Edits, weights: Mapping[Edit, Weights], *, in_place: bool = False
) -> Any:
    """What loading the checkpoint with these edits would give.

    The modules are copied and edited by the surgery that writes checkpoints; parameters and buffers are shared.

    Args:
        weights: the tensors of edits whose operation stores some.
        in_place: edit ``module`` itself, as must be done where accelerate has put hooks on it.

    Raises:
        PlanError: as :func:`gatenorm.surgery.live.edit_model`.
    """
    from gatenorm.surgery.live import edit_model

    if not in_place:
        module = copy.deepcopy(module, {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())})
    return edit_model(module, edits, layout.data, weights=weights)


class BlockSwap:
    """Puts edited blocks in the place of a model's own, and the model's own back.

    An edited block is what surgery makes of the block, with the same tensors in what stays: the logits are those of
    the edited checkpoint. Without a key/value cache only.
    """

    def __init__(self, module: Any, layout: Layout):
        self.module = module
        self._layout = layout
        self._places = blocks_of(module, layout)
        self._blocks = list(self._places)
        self._shape = block_description(layout.data)
        # By the edits of a layer. Fitted tensors are not part of an edit's name until it is written, so the last ones
        # are kept beside the block that was made with them.
        self._edited: dict[tuple[Edit, ...], tuple[list[Weights | None], nn.Module]] = {}

    @contextmanager
    def edited(self, edits: Edits, weights: Mapping[Edit, Weights]) -> Iterator[Any]:
        """The module with these edits (original layer numbers); as it was afterwards."""
        try:
            for layer in edits.layers:
                self._places[layer] = self._block(edits.at(layer), weights)
            yield self.module
        finally:
            for layer in edits.layers:
                self._places[layer] = self._blocks[layer]

    def _block(self, edits: tuple[Edit, ...], weights: Mapping[Edit, Weights]) -> nn.Module:
        from gatenorm.surgery import modeling_gatenorm as modeling
        from gatenorm.surgery.live import set_weights

        own = [weights.get(edit) for edit in edits]
        made_with, known = self._edited.get(edits, ([], None))
        if known is not None and all(a is b for a, b in zip(made_with, own, strict=True)):
            return known
        block = self._blocks[edits[0].layer]
        edited = copy.copy(block)
        # A shallow copy shares the table of submodules, out of which surgery takes what goes.
        edited._modules = dict(block._modules)
        hook = _take_off_accelerate(edited)
        records = {
            name: {"normed": record.normed, "tensors": record.tensors}
            for name, record in operation_records(Edits(edits), self._layout.width).items()
        }
        names: dict[str, str] = {edit.sublayer: edit.operation for edit in edits}
        modeling.edit_block(edited, self._shape, self.module.config, names, records)
        like = next(block.parameters(), None)
        for edit, tensors in zip(edits, own, strict=True):
            if tensors:
                set_weights(edited.get_submodule(place(self._layout.data, edit.sublayer)), tensors, like)
        if hook is not None:
            from accelerate.hooks import add_hook_to_module

            add_hook_to_module(edited, hook)
        self._edited[edits] = own, edited
        return edited


def _take_off_accelerate(block: Any) -> Any:
    """Undo what accelerate does to the blocks of a model that is spread over devices: its ``forward`` would still be
    the whole block's. Returns the hook, to be put on again.
    """
    hook = block.__dict__.pop("_hf_hook", None)
    for name in ("forward", "_old_forward"):
        block.__dict__.pop(name, None)
    return hook
