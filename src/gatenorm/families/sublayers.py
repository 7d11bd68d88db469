"""Which modules of a block belong to its attention and which to its MLP, and so what goes when either goes."""

from __future__ import annotations

from collections.abc import Collection

from gatenorm.families.family import Data
from gatenorm.records import ATTENTION, MLP


def mlp_modules(data: Data) -> tuple[str, ...]:
    """The modules that go with the MLP alone: its branch, less a norm that the attention reads too.

    Falcon's parallel blocks have one norm in front of both branches: it stays as long as either of them does.
    """
    return tuple(name for name in data["block"]["branch"] if name != data["norms"]["input"])


def gone_modules(data: Data, sublayers: Collection[str]) -> tuple[str, ...]:
    """The modules of a block that go when all of ``sublayers`` (``attention``, ``mlp``) have gone.

    Norms that stand on the residual stream itself (OPT's post-norm blocks) belong to neither, and stay.
    """
    attention = tuple(data["block"]["attention"]) if ATTENTION in sublayers else ()
    if MLP not in sublayers:
        return attention
    return (*attention, *(data["block"]["branch"] if attention else mlp_modules(data)))
