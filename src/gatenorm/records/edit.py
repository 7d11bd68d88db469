"""What is changed in a model: edits, each of the attention or the MLP of one layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

import msgspec

from gatenorm.records.serialization import Value

Sublayer = Literal["attention", "mlp"]
# A string for the type checker: it comes from users, and `check_kind` refuses unknown ones with a hint.
Kind = Annotated[str, msgspec.Meta(pattern=r"\A(attention|mlp|block)\Z")]
Choice = Annotated[str, msgspec.Meta(pattern=r"\A(attention|mlp|block|any)\Z")]
Layer = Annotated[int, msgspec.Meta(ge=0)]

ATTENTION: Sublayer = "attention"
MLP: Sublayer = "mlp"
BLOCK = "block"
# Attention and MLP sublayers in one ranking; it is no kind of sublayer, but what a plan may choose among.
ANY = "any"
SUBLAYERS: tuple[Sublayer, ...] = get_args(Sublayer)
# What is ranked and chosen, and the sublayers that each of them consists of.
KINDS: dict[str, tuple[Sublayer, ...]] = {ATTENTION: (ATTENTION,), MLP: (MLP,), BLOCK: SUBLAYERS}
# For people: what one of each kind is called, and each sublayer.
SINGULAR: dict[str, str] = {ATTENTION: "attention sublayer", MLP: "MLP sublayer", BLOCK: "block"}
NAMES: dict[str, str] = {ATTENTION: "attention", MLP: "MLP"}
REMOVE = "remove"


class Edit(Value, frozen=True, order=True, omit_defaults=True):
    """One sublayer of an original 0-based layer, and the operation that takes its place.

    ``artifact`` identifies the fitted tensors of an operation that has some.
    """

    layer: Layer
    sublayer: Sublayer
    operation: str
    artifact: str | None = None


class Edits(tuple[Edit, ...]):
    """An immutable set of edits, at most one per sublayer, in the order of the layers.

    ``|`` joins two sets, ``-`` takes one from another.

    Attributes:
        attention: the layers whose attention is edited.
        mlp: the layers whose MLP is edited.

    Raises:
        ValueError: two different edits of one sublayer.
    """

    attention: tuple[int, ...]
    mlp: tuple[int, ...]

    def __new__(cls, edits: Iterable[Edit] = ()) -> Edits:
        self = super().__new__(cls, sorted(set(edits), key=lambda edit: (edit.layer, edit.sublayer)))
        self.attention = tuple(edit.layer for edit in self if edit.sublayer == ATTENTION)
        self.mlp = tuple(edit.layer for edit in self if edit.sublayer == MLP)
        for layers in (self.attention, self.mlp):
            twice = next((a for a, b in pairwise(layers) if a == b), None)
            if twice is not None:
                raise ValueError(f"layer {twice} has two edits of one sublayer")
        return self

    @classmethod
    def of(cls, kind: str, layers: Iterable[int], operation: str = REMOVE) -> Edits:
        """The same operation on all sublayers of ``kind``, one of ``KINDS``, in ``layers``."""
        return cls(Edit(layer, sublayer, operation) for layer in layers for sublayer in KINDS[kind])

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers with any edit."""
        return tuple(sorted({*self.attention, *self.mlp}))

    @property
    def blocks(self) -> tuple[int, ...]:
        """The layers with an edit of both sublayers."""
        return tuple(sorted({*self.attention} & {*self.mlp}))

    def layers_of(self, kind: str) -> tuple[int, ...]:
        """The layers where every sublayer of ``kind`` is edited."""
        by_kind: dict[str, tuple[int, ...]] = {ATTENTION: self.attention, MLP: self.mlp, BLOCK: self.blocks}
        return by_kind[kind]

    def at(self, layer: int) -> tuple[Edit, ...]:
        """The edits of one layer."""
        return tuple(edit for edit in self if edit.layer == layer)

    def __or__(self, other: Edits) -> Edits:
        return Edits((*self, *other))

    def __sub__(self, other: Edits) -> Edits:
        return Edits({*self} - {*other})

    def __str__(self) -> str:
        """For people: ``blocks 3-5; attention 7; MLP 8, 9; attention 2 (linear)``, or ``none``."""
        operations = sorted({edit.operation for edit in self}, key=lambda name: (name != REMOVE, name))
        return "; ".join(part for name in operations for part in self._parts(name)) or "none"

    def _parts(self, operation: str) -> Iterator[str]:
        alike = Edits(edit for edit in self if edit.operation == operation)
        blocks, remark = {*alike.blocks}, "" if operation == REMOVE else f" ({operation})"
        kinds = (("blocks", blocks), ("attention", {*alike.attention} - blocks), ("MLP", {*alike.mlp} - blocks))
        return (f"{name} {spans(layers)}{remark}" for name, layers in kinds if layers)

    def __repr__(self) -> str:
        return f"Edits({list(self)})"

    @classmethod
    def from_json(cls, data: Any) -> Edits:
        try:
            return cls(msgspec.convert(data, tuple[Edit, ...]))
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None


def spans(layers: Iterable[int]) -> str:
    """Layer indices for people: ``0, 4-6, 9``."""
    parts: list[str] = []
    ordered = sorted(layers)
    start = 0
    for end in range(len(ordered)):
        if end + 1 == len(ordered) or ordered[end + 1] != ordered[end] + 1:
            run = ordered[start : end + 1]
            parts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(i) for i in run]
            start = end + 1
    return ", ".join(parts) or "none"
