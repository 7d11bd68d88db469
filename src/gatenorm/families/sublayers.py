"""Which modules of a block belong to its attention and which to its MLP."""

from __future__ import annotations

from gatenorm.families.family import Data


def mlp_modules(data: Data) -> tuple[str, ...]:
    """The modules that go with the MLP alone: its branch, less a norm that the attention reads too.

    Falcon's parallel blocks have one norm in front of both branches: it stays as long as either of them does.
    """
    return tuple(name for name in data["block"]["branch"] if name != data["norms"]["input"])
