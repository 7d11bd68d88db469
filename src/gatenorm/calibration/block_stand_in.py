"""Modules in the place of a model's blocks, for passes that do not run all of them.

Models make masks and positions themselves and hand them to their blocks. So their own forward pass is run, with
stand-ins for the blocks that are not to run, until :class:`Reached` ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class Reached(Exception):  # noqa: N818 - nothing went wrong
    """What is wanted of a pass is done; the rest of the model need not run."""


def stand_in(block: Any, stream: Callable[..., Any]) -> nn.Module:
    """A module for a block's place; ``stream`` is called as the block is and gives the stream that leaves it."""
    from torch import nn

    from gatenorm.surgery import modeling_gatenorm as modeling

    returns_tuple = modeling.returns_tuple(getattr(block, "stock_class", type(block)), False)

    class StandIn(nn.Module):
        def forward(self, *arguments: Any, **keywords: Any) -> Any:
            left = stream(*arguments, **keywords)
            return (left, None) if returns_tuple else left

        def __getattr__(self, name: str) -> Any:
            return getattr(block, name)  # `decoder_layer.attention_type` and the like

    return StandIn()
