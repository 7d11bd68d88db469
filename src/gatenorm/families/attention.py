"""The weights of one layer's attention, cut out of whatever tensors hold them.

Every family is brought to one form: a projection is a list of heads, each ``[head_dim, width]`` (rows of ``Wq``,
``Wk``, ``Wv``; columns of ``Wo`` transposed), so that formulas need not know how a family stores it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gatenorm.checkpoint import to_float32
from gatenorm.checkpoint.dtypes import Bits, Float32
from gatenorm.errors import FamilyError
from gatenorm.families.layout import Layout


@dataclass(frozen=True)
class Projection:
    """One of q, k, v, o: ``bits`` are views of the mapped file ``[head_dim, width]``, one a head; nothing is copied.

    ``tensor`` is the name of the stored tensor, for messages; ``dtype`` its safetensors type.
    """

    tensor: str
    dtype: str
    bits: tuple[Bits, ...]

    @property
    def heads(self) -> int:
        return len(self.bits)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(heads, head_dim, width)``."""
        rows, width = self.bits[0].shape
        return len(self.bits), rows, width

    def head(self, index: int, out: Float32 | None = None) -> Float32:
        """One head as float32 ``[head_dim, width]``, into ``out`` where it is given."""
        return to_float32(self.bits[index], self.dtype, out)

    def float32(self) -> Float32:
        """All heads as one float32 matrix ``[heads * head_dim, width]``."""
        heads, rows, width = self.shape
        out = np.empty((heads * rows, width), np.float32)
        for index in range(heads):
            self.head(index, out[index * rows : (index + 1) * rows])
        return out

    def matrix(self) -> Bits:
        """The stored bits as one matrix ``[heads * head_dim, width]``, a view where the heads lie side by side."""
        first, rows = self.bits[0], self.bits[0].shape[0]
        base = first.__array_interface__["data"][0]
        step = rows * first.strides[0]
        adjacent = all(b.__array_interface__["data"][0] == base + i * step for i, b in enumerate(self.bits))
        if adjacent and first.base is not None:
            return np.lib.stride_tricks.as_strided(first, (rows * len(self.bits), first.shape[1]), first.strides)
        return np.concatenate(self.bits)


class AttentionWeights:
    """The attention of layer ``layer``: projections ``q``, ``k``, ``v``, ``o``, biases, norm gains; read when used."""

    def __init__(self, layout: Layout, layer: int):
        self.layout = layout.at(layer)
        self.layer = layer

    @cached_property
    def q(self) -> Projection:
        """``Wq``, one entry a query head."""
        return self._projection("q")

    @cached_property
    def k(self) -> Projection:
        """``Wk``, one entry a key head; query head h reads key head ``h // (heads / kv_heads)``."""
        return self._projection("k")

    @cached_property
    def v(self) -> Projection:
        """``Wv``, one entry a value head."""
        return self._projection("v")

    @cached_property
    def o(self) -> Projection:
        """``Wo`` transposed, one entry a query head: ``[value_dim, width]``."""
        lay, name = self.layout, self._weight_name("o")
        bits, dtype = lay.checkpoint.floats(name)
        rows = bits if lay.roles.transposed else bits.T
        return Projection(name, dtype, self._split(rows, lay.heads))

    def nbytes(self, roles: Iterable[str]) -> int:
        """The bytes of weights that are read for these projections; none is read to say so."""
        shares: dict[str, float] = {}
        for role in roles:
            for module, share in self.sources(role).items():
                shares[module] = min(1.0, shares.get(module, 0.0) + share)
        lay = self.layout
        specs = {module: lay.checkpoint.spec(lay.tensor(self.layer, f"{module}.weight")) for module in shares}
        return round(sum(specs[module].nbytes * share for module, share in shares.items()))

    def sources(self, role: str) -> dict[str, float]:
        """The modules whose weights a projection is made of, with the share of each that is read."""
        lay = self.layout
        module = lay.projections.get(role)
        if module is not None:
            return {module: 1.0}
        share = len(self._positions(role)) / (lay.heads + 2 * lay.kv_heads)
        return {lay.projections["qkv"]: 1.0 if lay.roles.transposed else share}

    def bias(self, role: str) -> Float32 | None:
        """The bias of ``q``, ``k`` or ``v`` as ``[heads * head_dim]``, or of ``o`` as ``[width]``; ``None`` without."""
        lay = self.layout
        fused = role not in lay.projections
        name = self._name(role, f"{lay.projections['qkv' if fused else role]}.bias")
        if name not in lay.checkpoint:
            return None
        heads = {"q": lay.heads, "o": lay.width / lay.head_dim}.get(role, lay.kv_heads)
        values = self._vector(name, {round((lay.heads + 2 * lay.kv_heads if fused else heads) * lay.head_dim)})
        if not fused:
            return values
        size = lay.head_dim
        return np.concatenate([values[p * size : (p + 1) * size] for p in self._positions(role)])

    def gain(self, norm: str) -> Float32 | None:
        """The gain of the ``input``, ``output``, ``q`` or ``k`` norm, offset added; ``None`` where there is none."""
        lay = self.layout
        module = lay.norms.module(norm)
        if not module or (norm in ("q", "k") and not self.normed):
            return None
        if norm in lay.norms.plain:
            return np.ones(lay.head_dim if norm in ("q", "k") else lay.width, np.float32)
        name = self._name(norm, f"{module}.weight")
        if name not in lay.checkpoint:
            return None
        heads = {"q": lay.heads, "k": lay.kv_heads}.get(norm)
        # A norm of queries or keys spans one head or all of them.
        lengths = {lay.width} if heads is None else {lay.head_dim, heads * lay.head_dim}
        gain = self._vector(name, lengths) + np.float32(lay.norms.gain_offset)
        return gain * np.float32(lay.input_factor) if norm == "input" else gain

    @property
    def normed(self) -> bool:
        """Whether queries and keys are normed: in some families only where they turn."""
        norms = self.layout.norms
        turning = not norms.turning or self.layout.rotary_of(self.layer) is not None
        return bool(norms.q and norms.k) and turning

    def _vector(self, name: str, lengths: set[int]) -> Float32:
        shape = self.layout.checkpoint.spec(name).shape
        if len(shape) != 1 or shape[0] not in lengths:
            raise _shape_wrong(name, shape, sorted(lengths))
        return self.layout.checkpoint.float32(name)

    def check(self) -> None:
        """Compare the stored shapes with the config's numbers, without reading a weight.

        Raises:
            FamilyError: no query and key weights where the family keeps them, or of another shape.
        """
        for role, expected in self._shapes().items():
            name = self._weight_name(role)
            if name not in self.layout.checkpoint:
                raise FamilyError(
                    "tensor-missing", f"no tensor {name}", expected=f"the {role} projection of layer {self.layer} there"
                )
            found = self.layout.checkpoint.spec(name).shape
            if found != expected:
                raise _shape_wrong(name, found, list(expected))

    def _shapes(self) -> dict[str, tuple[int, int]]:
        """The stored shapes of the projections that the config's numbers imply, by role."""
        lay = self.layout
        q, kv = lay.heads * lay.head_dim, lay.kv_heads * lay.head_dim
        rows = {"qkv": q + 2 * kv, "q": 2 * q if lay.roles.q_gate else q, "k": kv, "v": kv}
        shapes = {role: (lay.width, q) if role == "o" else (rows[role], lay.width) for role in lay.projections}
        return {role: shape[::-1] for role, shape in shapes.items()} if lay.roles.transposed else shapes

    def _weight_name(self, role: str) -> str:
        return self._name(role, f"{self.layout.projections[role]}.weight")

    def _name(self, role: str, tensor: str) -> str:
        """The full name of a tensor: keys and values may be those of another layer."""
        source = self.layout.key_sources.get(self.layer, self.layer) if role in ("k", "v") else self.layer
        return self.layout.tensor(source, tensor)

    def _projection(self, role: str) -> Projection:
        lay = self.layout
        if lay.roles.qkv:
            dtype, by_position = self._values if role == "v" else self._queries_and_keys
            return Projection(self._weight_name("qkv"), dtype, tuple(by_position[p] for p in self._positions(role)))
        name = self._weight_name(role)
        bits, dtype = lay.checkpoint.floats(name)
        rows = bits.T if lay.roles.transposed else bits
        gated = role == "q" and lay.roles.q_gate
        heads = self._split(rows, 2 * lay.heads if gated else lay.heads if role == "q" else lay.kv_heads)
        return Projection(name, dtype, heads[:: 2 if gated else 1])

    def _split(self, rows: Bits, heads: int) -> tuple[Bits, ...]:
        size = len(rows) // heads
        return tuple(rows[h * size : (h + 1) * size] for h in range(heads))

    @cached_property
    def _queries_and_keys(self) -> tuple[str, dict[int, Bits]]:
        # Together: in grouped layouts they lie side by side, and every run of rows is a request to the hub.
        return self._fused((*self._positions("q"), *self._positions("k")))

    @cached_property
    def _values(self) -> tuple[str, dict[int, Bits]]:
        return self._fused(self._positions("v"))

    def _fused(self, positions: Sequence[int]) -> tuple[str, dict[int, Bits]]:
        """The type of fused weights, and the heads in these places; nothing is read of others but where rows hold all.

        Rows of a transposed weight are inputs, and each holds a piece of every head.
        """
        lay, size, name = self.layout, self.layout.head_dim, self._weight_name("qkv")
        if lay.roles.transposed:
            bits, dtype = lay.checkpoint.floats(name)
            return dtype, {p: bits.T[p * size : (p + 1) * size] for p in positions}
        heads: dict[int, Bits] = {}
        for run in _runs(positions):
            bits, dtype = lay.checkpoint.floats(name, slice(run.start * size, run.stop * size))
            heads.update(zip(run, self._split(bits, len(run)), strict=True))
        return dtype, heads

    def _positions(self, role: str) -> list[int]:
        """Where the heads of one role stand among the ``heads + 2 kv_heads`` of fused rows."""
        lay = self.layout
        group = lay.heads // lay.kv_heads
        if lay.roles.fused == "stacked":
            starts = {"q": 0, "k": lay.heads, "v": lay.heads + lay.kv_heads}
            return [starts[role] + h for h in range(lay.heads if role == "q" else lay.kv_heads)]
        if role == "q":
            return [(h // group) * (group + 2) + h % group for h in range(lay.heads)]
        return [g * (group + 2) + group + (role == "v") for g in range(lay.kv_heads)]


def _runs(positions: Iterable[int]) -> list[range]:
    """The numbers as ranges, as few as can be."""
    runs: list[range] = []
    for number in sorted(positions):
        if runs and runs[-1].stop == number:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs


def _shape_wrong(name: str, found: tuple[int, ...], implied: list[int]) -> FamilyError:
    return FamilyError("tensor-shape-wrong", f"{name} has shape {list(found)}, but config.json implies {implied}")
