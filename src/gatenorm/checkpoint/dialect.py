"""The names that a format has of its own, beside those of transformers, which everything else here speaks."""

from collections.abc import Mapping
from dataclasses import dataclass

from gatenorm.records import Value


class FormatNames(Value, frozen=True, omit_defaults=True):
    """What the files of a format call an architecture and its parts; a part of a family's JSON."""

    architecture: str
    config: Mapping[str, str]  # by the key of ``config.json`` the format's, less the architecture before it
    outer: Mapping[str, str]  # modules around the blocks, by their name in the format
    block: Mapping[str, str]  # modules of a block, by their name in the format; single tensors by theirs
    # Those modules of ``block`` whose rows are stored in the order of interleaved rotary pairs, where transformers
    # turns dimension ``j`` together with ``j + head_dim / 2``.
    interleaved: tuple[str, ...]
    rope_factors: str  # a tensor of factors for the rotary waves
    pruned: str | None = None  # the architecture as which pruned models are written


@dataclass(frozen=True)
class Dialect:
    """How one architecture's names in a format become those of transformers.

    Attributes:
        given: what ``config.json`` says of every such model.
        path: what transformers calls the list of blocks.
        layers: of a file that lacks whole blocks, the original numbers of those that it has.
        gain_offset: what transformers adds to the stored gains of norms, which the format stores in full.
    """

    names: FormatNames
    given: Mapping[str, object]
    path: str
    layers: tuple[int, ...] | None = None
    gain_offset: float = 0.0
