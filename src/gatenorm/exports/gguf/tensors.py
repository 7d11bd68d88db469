"""The tensors of a GGUF file, architecture ``llama`` or ``deci``: their names, shapes, and where their rows come from.

llama.cpp's loader (src/models/deci.cpp) wants of a layer without attention its MLP and nothing else; an ``attn_norm``
there is a tensor too many. Layer 0 is an exception: llama.cpp derives the head size from its head count, which
therefore must not be 0. It is written as deci's "linear attention", query heads without key heads, whose one matrix is
zero: exact, and without a cache.

A block that is gone altogether is not written: the blocks that follow move up. deci has layers without an MLP too, but
llama.cpp then leaves out the layer's attention as well (deci.cpp goes on to the next layer before it adds it to the
stream). So a layer that lost its MLP and kept its attention gets an MLP of ``NO_MLP`` hidden units that are zero, which
is exact.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint.dtypes import STORAGE_TYPES, Bits
from gatenorm.errors import CheckpointError
from gatenorm.exports.gguf.types import SCHEMES, encode, more_bits, nbytes, tensor_type
from gatenorm.exports.llama_like import outer, tied
from gatenorm.families import Layout
from gatenorm.records import ATTENTION
from gatenorm.surgery.exported import Exported, export_entries

# How much of a tensor is in memory at once.
_CHUNK = 32 << 20
# The hidden units of an MLP that computes zero: the shortest row that every block type holds.
NO_MLP = 32
# By what llama.cpp divides the frequencies of rotary waves.
ROPE_FACTORS = "rope_freqs.weight"
FORM = "gguf"


@dataclass(frozen=True)
class Tensor:
    """One tensor to write. ``rows(begin, end)`` yields the stored bits of a run of its rows, of type ``stored``.

    ``step`` is the number of rows that only make sense together: a head's, where they change places. ``source`` is the
    tensor of the checkpoint that it is; None where it is made up.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    stored: str
    rows: Callable[[int, int], Bits] = field(repr=False)
    step: int = 1
    source: str | None = None

    @property
    def nbytes(self) -> int:
        return nbytes(self.type, self.shape)

    def chunks(self) -> Iterator[npt.NDArray[np.generic]]:
        count = self.shape[0]
        row = max(1, int(np.prod(self.shape[1:], dtype=np.int64)) * 4)
        rows = max(1, _CHUNK // (row * self.step)) * self.step
        for begin in range(0, count, rows):
            yield encode(self.rows(begin, min(begin + rows, count)), self.stored, self.type, self.name)


def tensors(layout: Layout, dtype: str, read: bool = True) -> list[Tensor]:
    """Every tensor of the file, in the order of the file.

    Without ``read`` no weights are read to find them: an output matrix that equals the embedding is among them then.

    Raises:
        CheckpointError: the checkpoint lacks one, or has it in another shape than its config implies.
    """
    return list(_Writer(layout, dtype).all(read))


def file_type(tensors: list[Tensor], dtype: str) -> int:
    """``general.file_type``: what most of the file's bytes are."""
    if dtype in SCHEMES:
        return SCHEMES[dtype].file_type
    sizes: dict[str, int] = {}
    for tensor in tensors:
        sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.nbytes
    return SCHEMES[max(sizes, key=lambda name: sizes[name]).lower()].file_type


def written(layout: Layout) -> tuple[int, ...]:
    """The original numbers of the layers that are written, in their order: all but those that are gone altogether."""
    gone = {layer for layer in layout.edits.blocks if not export_entries(layout, FORM, layer)}
    return tuple(layer for layer in range(layout.layers) if layer not in gone)


def hidden(layout: Layout, layer: int) -> int:
    """How wide the MLP of that layer is written."""
    if layer not in layout.mlp_layers:
        return NO_MLP
    return layout.checkpoint.spec(layout.tensor(layer, f"{layout.mlp.up}.weight")).shape[0]


class _Writer:
    def __init__(self, layout: Layout, dtype: str):
        self.layout, self.dtype = layout, dtype
        self.kept, self.written = layout.attention_layers, written(layout)

    def all(self, read: bool) -> Iterator[Tensor]:
        lay, shared = self.layout, tied(self.layout, read)
        size = (lay.checkpoint.spec(outer(lay, "embedding")).shape[0], lay.width)
        yield self._stored("token_embd.weight", outer(lay, "embedding"), size, head=shared)
        yield self._stored("output_norm.weight", outer(lay, "norm"), (lay.width,))
        if not shared:
            yield self._stored("output.weight", outer(lay, "head"), size, head=True)
        rotary = lay.rotary
        if ROPE_FACTORS in lay.checkpoint:
            yield self._stored(ROPE_FACTORS, ROPE_FACTORS, (lay.head_dim // 2,))
        elif rotary is not None and rotary.kind == "llama3":
            # What llama.cpp divides the plain frequencies by.
            plain = rotary.theta ** (-np.arange(0, rotary.dims, 2, dtype=np.float64) / rotary.dims)
            yield self._made(ROPE_FACTORS, (plain / rotary.frequencies()).astype(np.float32))
        for place, layer in enumerate(self.written):
            if layer in self.kept:
                yield from self._attention(layer, f"blk.{place}")
            elif ATTENTION in export_entries(lay, FORM, layer):
                yield from self._replaced(layer, f"blk.{place}")
            elif place == 0:
                yield self._made("blk.0.attn_norm.weight", np.ones(lay.width, np.float32))
                yield self._zero("blk.0.attn_output.weight", (lay.width, lay.width))
            yield from self._mlp(layer, place) if layer in lay.mlp_layers else self._zero_mlp(f"blk.{place}")

    def _replaced(self, layer: int, block: str) -> Iterator[Tensor]:
        lay = self.layout
        norm = f"{lay.norms.input}.weight"
        if lay.tensor(layer, norm) in lay.checkpoint:
            yield self._of_layer(layer, f"{block}.attn_norm.weight", norm, (lay.width,))
        for one in export_entries(lay, FORM, layer)[ATTENTION][1]:
            if len(one.stored) == 1:
                yield self._stored(f"{block}.{one.name}", one.stored[0], one.shape(lay.checkpoint))
            else:
                yield self._product(f"{block}.{one.name}", one)

    def _attention(self, layer: int, block: str) -> Iterator[Tensor]:
        lay = self.layout
        q, kv = lay.heads * lay.head_dim, lay.kv_heads * lay.head_dim
        position = self.kept.index(layer)
        yield self._of_layer(layer, f"{block}.attn_norm.weight", f"{lay.norms.input}.weight", (lay.width,))
        parts = (("q", q, True, False), ("k", kv, True, False), ("v", kv, False, more_bits(position, len(self.kept))))
        for role, rows, turned, more in parts:
            name, source = f"{block}.attn_{role}", lay.projections[role]
            yield self._of_layer(layer, f"{name}.weight", f"{source}.weight", (rows, lay.width), turned, more)
            if lay.tensor(layer, f"{source}.bias") in lay.checkpoint:
                yield self._of_layer(layer, f"{name}.bias", f"{source}.bias", (rows,), turned)
        yield self._of_layer(layer, f"{block}.attn_output.weight", f"{lay.roles.o}.weight", (lay.width, q))
        if lay.tensor(layer, f"{lay.roles.o}.bias") in lay.checkpoint:
            yield self._of_layer(layer, f"{block}.attn_output.bias", f"{lay.roles.o}.bias", (lay.width,))

    def _mlp(self, layer: int, place: int) -> Iterator[Tensor]:
        lay, block, mlp, inner = self.layout, f"blk.{place}", self.layout.mlp, hidden(self.layout, layer)
        # The branch is its norm, then the MLP: `block` names them in the order in which they run.
        norm = lay.block.branch[0]
        more = more_bits(place, len(self.written))
        yield self._of_layer(layer, f"{block}.ffn_norm.weight", f"{norm}.weight", (lay.width,))
        yield self._of_layer(layer, f"{block}.ffn_gate.weight", f"{mlp.gate}.weight", (inner, lay.width))
        yield self._of_layer(layer, f"{block}.ffn_up.weight", f"{mlp.up}.weight", (inner, lay.width))
        yield self._of_layer(layer, f"{block}.ffn_down.weight", f"{mlp.down}.weight", (lay.width, inner), more=more)

    def _zero_mlp(self, block: str) -> Iterator[Tensor]:
        width = self.layout.width
        yield self._made(f"{block}.ffn_norm.weight", np.ones(width, np.float32))
        for name, shape in (("gate", (NO_MLP, width)), ("up", (NO_MLP, width)), ("down", (width, NO_MLP))):
            yield self._zero(f"{block}.ffn_{name}.weight", shape)

    def _of_layer(
        self, layer: int, name: str, source: str, shape: tuple[int, ...], turned: bool = False, more: bool = False
    ) -> Tensor:
        return self._stored(name, self.layout.tensor(layer, source), shape, turned, more)

    def _stored(
        self,
        name: str,
        source: str,
        shape: tuple[int, ...],
        turned: bool = False,
        more: bool = False,
        head: bool = False,
    ) -> Tensor:
        checkpoint, size = self.layout.checkpoint, self.layout.head_dim
        info = checkpoint.spec(source)
        if info.shape != shape:
            raise CheckpointError(
                "tensor-shape-wrong", f"{source} has shape {list(info.shape)}, but config.json implies {list(shape)}"
            )

        # Codes that stay what they are are copied; others are made into numbers, to be coded anew.
        copied = self.dtype == "auto" and len(shape) > 1
        stored = info.dtype if copied or info.dtype in STORAGE_TYPES else "F32"

        def rows(begin: int, end: int) -> Bits:
            run = slice(begin, end)
            bits = checkpoint.raw(source, run) if stored == info.dtype else checkpoint.float32(source, run)
            return interleaved(bits, size) if turned else bits

        kind = tensor_type(self.dtype, stored, shape, more, head)
        return Tensor(name, shape, kind, stored, rows, size if turned else 1, source)

    def _product(self, name: str, exported: Exported) -> Tensor:
        checkpoint = self.layout.checkpoint
        shape, stored = exported.shape(checkpoint), checkpoint.spec(exported.stored[0]).dtype

        def rows(begin: int, end: int) -> Bits:  # in float32: rounding it to the stored type would come on top
            return exported.product(checkpoint, slice(begin, end))

        return Tensor(name, shape, tensor_type(self.dtype, stored, shape), "F32", rows)

    def _made(self, name: str, values: npt.NDArray[np.float32]) -> Tensor:
        return Tensor(name, values.shape, "F32", "F32", lambda begin, end: values[begin:end])

    def _zero(self, name: str, shape: tuple[int, int]) -> Tensor:
        """A matrix of zeros, of the type that the rest of the file has: a second type would only raise questions."""
        stored = self.layout.checkpoint.spec(outer(self.layout, "embedding")).dtype
        stored = stored if stored in STORAGE_TYPES else "F16"
        numpy = STORAGE_TYPES[stored].numpy
        kind = tensor_type(self.dtype, stored, shape)
        return Tensor(name, shape, kind, stored, lambda begin, end: np.zeros((end - begin, shape[1]), numpy))


def interleaved(rows: Bits, head_dim: int) -> Bits:
    """Rows ``[heads * head_dim, ...]`` in the order of rotary pairs that both architectures take for granted.

    transformers turns dimension ``j`` together with ``j + head_dim / 2``, llama.cpp's NORM kind of rotation ``2j`` with
    ``2j + 1``. The logits are sums over all dimensions, so nothing changes when queries and keys are both reordered.
    """
    halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)
