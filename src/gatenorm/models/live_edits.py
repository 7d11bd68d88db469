"""Editing a loaded model: for a while by swapping blocks, or in a copy that shares its tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gatenorm.families import Layout
from gatenorm.models.forward import blocks_of
from gatenorm.records import Edit, Edits, to_json
from gatenorm.surgery.config import block_record
from gatenorm.surgery.folding import carried, changed_layers, check_folds, folded_parameters, folds, projection
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
        self._shape = block_record(layout.data).to_dict()
        # By layer, its edits and those that are folded into it. Fitted tensors are not part of an edit's name until it
        # is written, so the last ones are kept beside the block that was made with them.
        self._edited: dict[tuple[int | Edit, ...], tuple[list[Weights | None], nn.Module]] = {}

    @contextmanager
    def edited(self, edits: Edits, weights: Mapping[Edit, Weights]) -> Iterator[Any]:
        """The module with these edits (original layer numbers); as it was afterwards."""
        data = self._layout.data
        check_folds(data, Edits(), edits)
        changed = changed_layers(data, edits)
        try:
            for layer in changed:
                self._places[layer] = self._block(layer, edits, weights)
            yield self.module
        finally:
            for layer in changed:
                self._places[layer] = self._blocks[layer]

    def _block(self, layer: int, edits: Edits, weights: Mapping[Edit, Weights]) -> nn.Module:
        from gatenorm.surgery import modeling_gatenorm as modeling
        from gatenorm.surgery.live import set_weights

        data = self._layout.data
        own, folded = edits.at(layer), carried(data, edits, layer)
        tensors = [weights.get(edit) for edit in (*own, *folded)]
        made_with, known = self._edited.get((layer, *own, *folded), ([], None))
        if known is not None and all(a is b for a, b in zip(made_with, tensors, strict=True)):
            return known
        block = self._blocks[layer]
        edited, hook = _shallow_copy(block)
        records = to_json(operation_records(Edits(own), self._layout.width))
        names: dict[str, str] = {edit.sublayer: edit.operation for edit in own}
        modeling.edit_block(edited, self._shape, self.module.config, names, records)
        like = next(block.parameters(), None)
        for edit in own:
            if weights.get(edit) and edit not in folds(edits):
                set_weights(edited.get_submodule(place(data, edit.sublayer)), weights[edit], like)
        for edit in folded:
            module = _own_submodule(edited, projection(data))
            module._parameters.update(folded_parameters(module, data, weights[edit]))
        _put_on_accelerate(edited, hook)
        self._edited[(layer, *own, *folded)] = tensors, edited
        return edited


def _own_submodule(module: Any, path: str) -> Any:
    """A submodule that can be changed: it, and those on the way to it, give way to shallow copies."""
    for name in path.split("."):
        copied, hook = _shallow_copy(getattr(module, name))
        _put_on_accelerate(copied, hook)
        module._modules[name] = module = copied
    return module


def _shallow_copy(module: Any) -> tuple[Any, Any]:
    """A module with tables of its own, which share what they hold, and the hook of accelerate that it lacks."""
    copied = copy.copy(module)
    copied._modules, copied._parameters = dict(module._modules), dict(module._parameters)
    return copied, _take_off_accelerate(copied)


def _put_on_accelerate(module: Any, hook: Any) -> None:
    if hook is not None:
        from accelerate.hooks import add_hook_to_module

        add_hook_to_module(module, hook)


def _take_off_accelerate(block: Any) -> Any:
    """Undo what accelerate does to the blocks of a model that is spread over devices: its ``forward`` would still be
    the whole block's. Returns the hook, to be put on again.
    """
    hook = block.__dict__.pop("_hf_hook", None)
    for name in ("forward", "_old_forward"):
        block.__dict__.pop(name, None)
    return hook
