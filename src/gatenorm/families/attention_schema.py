"""What the JSON of a family says of its attention: see :mod:`gatenorm.families.schema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from msgspec import structs

from gatenorm.records import Value


class Mixers(Value, frozen=True, omit_defaults=True):
    """Where some layers have another mixer, and are left alone: ``kinds`` is the list by layer that says which one,
    ``attention`` are its entries for softmax attention.
    """

    attention: tuple[str, ...]
    kinds: str = "layer_types"


class Roles(Value, frozen=True, omit_defaults=True):
    """The modules that hold ``q``, ``k``, ``v``, ``o``, or ``qkv`` in one.

    With ``fused`` (``stacked``: all query rows, then key rows, then value rows; ``grouped``: for every key head its
    query heads, the key head, the value head) and ``transposed`` (weights stored ``[in, out]``); ``sinks``: logits of a
    head that no token answers to; ``q_gate``: behind the query of each head stand as many rows of a gate on its output.
    """

    o: str
    q: str | None = None
    k: str | None = None
    v: str | None = None
    qkv: str | None = None
    fused: Literal["stacked", "grouped"] | None = None
    transposed: bool = False
    sinks: str | None = None
    q_gate: bool = False

    @property
    def modules(self) -> dict[str, str]:
        """Those that hold an attention's matrices, by role: ``qkv`` and ``o`` where they are fused."""
        apart = {"q": self.q, "k": self.k, "v": self.v}
        held = {"qkv": self.qkv} if self.qkv else apart
        return {role: module for role, module in {**held, "o": self.o}.items() if module}


class Factors(NamedTuple):
    """The modules of a projection through a latent vector."""

    down: str
    norm: str
    up: str


class Latent(Value, frozen=True, omit_defaults=True):
    """Multi-head latent attention; ``q`` is null where queries are projected at once."""

    q: Factors | None
    kv: Factors


class Differing(Value, frozen=True, omit_defaults=True):
    """Where layers differ in more than lists by layer say.

    ``kinds`` is the list whose entry a layer's config has as ``layer_type``, for which ``variants`` may ask, ``shared``
    the key of how many layers at the end read the keys and values of the last one before them of their kind.
    """

    kinds: str
    shared: str


class Norms(Value, frozen=True, omit_defaults=True):
    """The norms of an attention: modules or null.

    The gain is ``gain_offset`` + weight; ``v``: values are normed, without weights; ``plain``: those of the norms
    without weights, ``turning``: queries and keys are normed only in layers where they turn, ``multiplier``: key of a
    factor on what the input norm makes.
    """

    kind: Literal["rms", "layer"]
    gain_offset: float
    input: str | None
    output: str | None
    q: str | None
    k: str | None
    v: bool = False
    plain: tuple[str, ...] = ()
    turning: bool = False
    multiplier: str = ""

    def module(self, norm: str) -> str | None:
        """That of the ``input``, ``output``, ``q`` or ``k`` norm."""
        found: str | None = getattr(self, norm)
        return found


class RotaryChange(Value, frozen=True, omit_defaults=True):
    """What is different in the layers of a kind; ``scaled`` false where ``rope_scaling`` is not meant."""

    theta: tuple[str, ...] = ()
    default_theta: float = 0.0
    default_scaling: Mapping[str, Any] = {}
    scaled: bool = True


class RotaryKeys(Value, frozen=True, omit_defaults=True):
    """How heads turn: keys, and what counts where a config has none of them.

    ``default_scaling`` are rope parameters, ``dims`` is the key of how many dimensions turn, ``place`` says whether
    they are the first or the last of a head, ``pairs`` which turn together (``half``: dimension j with j + dims/2;
    ``interleaved``: 2j with 2j + 1). Where layers differ, ``kinds`` is the list by layer that says how, and ``by_kind``
    by its entry what is different; null where nothing turns.
    """

    theta: tuple[str, ...]
    fraction: tuple[str, ...]
    default_theta: float
    default_fraction: float
    default_scaling: Mapping[str, Any] = {}
    scaled: bool = True
    dims: str = ""
    place: Literal["start", "end"] = "start"
    pairs: Literal["half", "interleaved"] = "half"
    kinds: str = "layer_types"
    by_kind: Mapping[str, RotaryChange | None] = {}

    def of_kind(self, kind: str | None) -> RotaryKeys | None:
        """The same with what is different in the layers of a kind; ``None`` where nothing turns."""
        change = self.by_kind.get(kind or "", RotaryChange())
        return None if change is None else structs.replace(self, **change.to_dict())
