"""The names that a format has of its own, beside those of transformers, which everything else here speaks."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """How one architecture's names in a format become those of transformers.

    Attributes:
        config: by the key of ``config.json`` the key that the format has for it.
        given: what ``config.json`` says of every such model.
        outer: modules around the blocks, by their name in the format.
        path: what transformers calls the list of blocks.
        block: modules of a block, by their name in the format; single tensors by theirs.
        interleaved: those modules of ``block`` whose rows are stored in the order of interleaved rotary pairs, where
            transformers turns dimension ``j`` together with ``j + head_dim / 2``.
        layers: of a file that lacks whole blocks, the original numbers of those that it has.
        gain_offset: what transformers adds to the stored gains of norms, which the format stores in full.
    """

    config: Mapping[str, str]
    given: Mapping[str, object]
    outer: Mapping[str, str]
    path: str
    block: Mapping[str, str]
    interleaved: tuple[str, ...] = ()
    layers: tuple[int, ...] | None = None
    gain_offset: float = 0.0
