"""Modules in the place of a model's blocks, for passes that do not run all of them.

Models make masks and positions themselves and hand them to their blocks. So their own forward pass is run, with
stand-ins for the blocks that are not to run, until :class:`Reached` ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


class Reached(Exception):  # noqa: N818 - nothing went wrong
    """What is wanted of a pass is done; the rest of the model need not run."""


def stand_in(block: Any, stream: Callable[..., Any]) -> nn.Module:
    """A module for a block's place; ``stream`` is called as the block is and gives the stream that leaves it."""
    from torch import nn

    kind: Any = type(block)
    returns_tuple = _returns_tuple(kind)

    class StandIn(nn.Module):
        def forward(self, *arguments: Any, **keywords: Any) -> Any:
            left = stream(*arguments, **keywords)
            return (left, None) if returns_tuple else left

        def __getattr__(self, name: str) -> Any:
            return getattr(block, name)  # `decoder_layer.attention_type` and the like

    return StandIn()


@cache
def _returns_tuple(block_class: Any) -> bool:
    from gatenorm.surgery import modeling_gatenorm as modeling

    return modeling.returns_tuple(getattr(block_class, "stock_class", block_class), False)


@contextmanager
def passed_over(places: Any, count: int, stream: Tensor | None) -> Iterator[None]:
    """While it lasts, the first ``count`` blocks of a model do nothing but let ``stream`` out behind the last of them.

    Args:
        places: the model's list of blocks.
    """
    before = list(places)[:count]

    def passed(hidden_states: Any, *_: Any, **__: Any) -> Any:
        return hidden_states

    try:
        for layer, block in enumerate(before):
            places[layer] = stand_in(block, passed if layer < count - 1 else lambda *_, **__: stream)
        yield
    finally:
        for layer, block in enumerate(before):
            places[layer] = block
