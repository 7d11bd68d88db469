"""A pruned model in memory that holds the very tensors of the whole one: its own modules, and not a byte of weights."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

from gatenorm.families import Layout
from gatenorm.surgery.live import remove_attention


def pruned_copy(model: Any, layout: Layout, layers: Collection[int]) -> Any:
    """What loading the checkpoint without the attention of ``layers`` would give, key/value cache and all.

    The modules are copied and pruned by the surgery that writes checkpoints; parameters and buffers are shared. The
    model that was given stays as it is, and is what comes back where nothing is removed. Not for a model that
    accelerate spread over devices: its hooks would go on calling the whole one.

    Args:
        layers: original numbers.

    Raises:
        PlanError: as ``remove_attention``.
    """
    if not layers:
        return model
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return remove_attention(copy.deepcopy(model, shared), sorted(layers), layout.data)
