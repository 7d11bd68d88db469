"""What is taken out of a model: sublayers, each the attention or the MLP of one layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gatenorm.records.validation import spans

ATTENTION, MLP, BLOCK = "attention", "mlp", "block"
# What can be removed of a layer, and the sublayers that each of them consists of.
KINDS: dict[str, tuple[str, ...]] = {ATTENTION: (ATTENTION,), MLP: (MLP,), BLOCK: (ATTENTION, MLP)}
# How people call them.
SINGULAR = {ATTENTION: "attention sublayer", MLP: "MLP sublayer", BLOCK: "block"}


@dataclass(frozen=True)
class Removal:
    """A set of sublayers, by original 0-based layer: those whose attention goes, and those whose MLP goes.

    A layer that is in both loses its whole block. Removals are sets: ``|`` joins two, ``-`` takes one from another.
    """

    attention: tuple[int, ...] = ()
    mlp: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in (ATTENTION, MLP):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))

    @classmethod
    def of(cls, kind: str, layers: Iterable[int]) -> Removal:
        """The sublayers of that kind in ``layers``; ``kind`` is one of ``KINDS``."""
        gone = tuple(layers)
        return cls(**dict.fromkeys(KINDS[kind], gone))

    @property
    def blocks(self) -> tuple[int, ...]:
        """The layers that lose both."""
        return tuple(layer for layer in self.attention if layer in set(self.mlp))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that lose anything."""
        return tuple(sorted({*self.attention, *self.mlp}))

    def within(self, kind: str) -> tuple[int, ...]:
        """The layers that lose all that a removal of ``kind`` takes."""
        return {ATTENTION: self.attention, MLP: self.mlp, BLOCK: self.blocks}[kind]

    def of_layer(self, layer: int) -> tuple[str, ...]:
        """The sublayers that go in one layer."""
        return tuple(name for name in (ATTENTION, MLP) if layer in getattr(self, name))

    def __bool__(self) -> bool:
        return bool(self.attention or self.mlp)

    def __or__(self, other: Removal) -> Removal:
        return Removal((*self.attention, *other.attention), (*self.mlp, *other.mlp))

    def __sub__(self, other: Removal) -> Removal:
        return Removal(_less(self.attention, other.attention), _less(self.mlp, other.mlp))

    def __str__(self) -> str:
        """For people: ``blocks 3-5; attention 7; MLP 8, 9``, or ``none``."""
        parts = [
            ("blocks", self.blocks),
            ("attention", _less(self.attention, self.mlp)),
            ("MLP", _less(self.mlp, self.attention)),
        ]
        return "; ".join(f"{name} {spans(layers)}" for name, layers in parts if layers) or "none"


def _less(layers: Sequence[int], others: Iterable[int]) -> tuple[int, ...]:
    gone = set(others)
    return tuple(layer for layer in layers if layer not in gone)
