"""The tensors of a ``nemotron-nas`` directory: which there are, and out of which bytes of the source they are made."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gatenorm.checkpoint.dtypes import STORAGE_TYPES
from gatenorm.checkpoint.parts import NewTensor, Part, computed, repeated, widened as padded
from gatenorm.checkpoint.store import NewWeights, Replacement
from gatenorm.exports.llama_like import outer, tied
from gatenorm.families import Layout
from gatenorm.records import ATTENTION
from gatenorm.surgery.exported import Exported, export_entries
from gatenorm.surgery.operation import ExportEntry

# What the readers round an MLP's width up to.
MULTIPLE = 256

_ONE = {"F64": struct.pack("<d", 1), "F32": struct.pack("<f", 1), "F16": struct.pack("<e", 1), "BF16": b"\x80\x3f"}
_ZERO = b"\0"
FORM = "nemotron-nas"
_PROJECTIONS = ("q", "k", "v", "o")


@dataclass(frozen=True)
class _Module:
    """One module of Llama's block: its name there, its name in the source, and the axis along which it is widened."""

    name: str
    source: str
    widened: int | None = None


@dataclass(frozen=True)
class Block:
    """A block to write: what is left of a ``layer`` of the source, or ``apart`` from it what replaced its attention."""

    layer: int
    apart: tuple[ExportEntry, tuple[Exported, ...]] | None = None


def blocks(layout: Layout) -> Iterator[Block]:
    """All of them in their order."""
    for layer in range(layout.layers):
        replaced = export_entries(layout, FORM, layer).get(ATTENTION)
        if replaced is not None and replaced[0].own_block:
            yield Block(layer, replaced)
        yield Block(layer)


def weight_files(layout: Layout) -> NewWeights:
    """The source's shards in their order with what belongs to each; made-up tensors lie where their layer's MLP lies.

    Numbered anew, since shards can lose all they hold and MLX-LM looks for ``model*.safetensors``.
    """
    return layout.checkpoint.rewritten(tensors(layout), renumber=True)


def tensors(layout: Layout, read: bool = True) -> Iterator[Replacement]:
    """Every tensor to write. Within a layer the MLP comes first: it is there in almost every layer.

    Without ``read`` no weights are read to find them: an output matrix that equals the embedding is among them then.
    """
    names = {"embedding": "model.embed_tokens.weight", "norm": "model.norm.weight", "head": "lm_head.weight"}
    for part, name in names.items():
        if part != "head" or not tied(layout, read):
            yield _taken(layout, name, outer(layout, part))
    for place, block in enumerate(blocks(layout)):
        if block.apart is None:
            yield from _layer(layout, block.layer, place)
        else:
            yield from _replacement(layout, block.apart[1], place)
            yield from _norm(layout, block.layer, place, "post_attention_layernorm")


def _layer(layout: Layout, layer: int, place: int) -> Iterator[Replacement]:
    """What is left of a layer, as the block at ``place``."""
    for module in _mlp_modules(layout) if layer in layout.mlp_layers else ():
        yield _taken(layout, _name(place, module), _source(layout, layer, module), module.widened)
    entries = {key: one for key, one in export_entries(layout, FORM, layer).items() if not one[0].own_block}
    for _, exported in entries.values():
        yield from _replacement(layout, exported, place)
    if layer in layout.attention_layers:
        yield from _attention(layout, layer, place)
    elif ATTENTION in entries:
        yield from _norm(layout, layer, place, "input_layernorm")
    elif layer in zero_attention(layout):
        yield from _zeros(layout, place)


def _replacement(layout: Layout, tensors: Iterable[Exported], place: int) -> Iterator[Replacement]:
    for one in tensors:
        name = f"model.layers.{place}.{one.name}"
        yield _taken(layout, name, one.stored[0]) if len(one.stored) == 1 else _product(layout, name, one)


def _product(layout: Layout, name: str, exported: Exported) -> Replacement:
    checkpoint = layout.checkpoint
    shape = exported.shape(checkpoint)
    # In float32: rounded to the stored type, the product would be another map than its factors.
    make = computed(4 * int(np.prod(shape)), lambda: exported.product(checkpoint).tobytes())
    return exported.stored[0], NewTensor(name, "F32", shape, (make,))


def _norm(layout: Layout, layer: int, place: int, name: str) -> Iterator[Replacement]:
    """The norm in front of an attention that was replaced, where the operation reads its output."""
    if (gain := layout.tensor(layer, f"{layout.norms.input}.weight")) in layout.checkpoint:
        yield _taken(layout, f"model.layers.{place}.{name}.weight", gain)


def zero_attention(layout: Layout) -> tuple[int, ...]:
    """The layers that are written with an attention that computes zero, where the source has none."""
    replaced = ATTENTION in export_entries(layout, FORM, 0)
    return (0,) if 0 in layout.edits.attention and not replaced else ()


def biased(layout: Layout) -> bool:
    """Whether the attention has biases."""
    first = layout.attention_layers[0]
    return any(layout.tensor(first, f"{layout.projections[role]}.bias") in layout.checkpoint for role in _PROJECTIONS)


def mlp_width(layout: Layout, layer: int) -> int:
    """The hidden units of the MLP in the source, of a layer that has one."""
    return layout.checkpoint.spec(layout.tensor(layer, f"{layout.mlp.gate}.weight")).shape[0]


def widened(width: int) -> int:
    """The hidden units that are written for an MLP of ``width`` of them."""
    return -(-width // MULTIPLE) * MULTIPLE


def ffn_mult(width: int, model_width: int) -> float:
    """The factor from which readers compute an MLP's ``width``, a multiple of 256.

    They take ``int(2 * ffn_mult * model_width / 3)`` and round up. Aimed at half a step below, so that no rounding of
    the factor (MLX-LM keeps six decimals) leads to another multiple.
    """
    return (width - MULTIPLE // 2) * 3 / (2 * model_width)


def _attention_modules(layout: Layout) -> list[_Module]:
    projections = [_Module(f"self_attn.{role}_proj", layout.projections[role]) for role in _PROJECTIONS]
    return [_Module("input_layernorm", str(layout.norms.input)), *projections]


def _mlp_modules(layout: Layout) -> list[_Module]:
    mlp = layout.mlp
    return [
        _Module("post_attention_layernorm", layout.block.branch[0]),
        _Module("mlp.gate_proj", str(mlp.gate), widened=0),
        _Module("mlp.up_proj", mlp.up, widened=0),
        _Module("mlp.down_proj", mlp.down, widened=1),
    ]


def _name(place: int, module: _Module, kind: str = "weight") -> str:
    return f"model.layers.{place}.{module.name}.{kind}"


def _source(layout: Layout, layer: int, module: _Module, kind: str = "weight") -> str:
    return layout.tensor(layer, f"{module.source}.{kind}")


def _attention(layout: Layout, layer: int, place: int) -> Iterator[Replacement]:
    for module in _attention_modules(layout):
        weight = _source(layout, layer, module)
        yield _taken(layout, _name(place, module), weight)
        if not biased(layout) or module.name == "input_layernorm":
            continue
        if (bias := _source(layout, layer, module, "bias")) in layout.checkpoint:
            yield _taken(layout, _name(place, module, "bias"), bias)
        else:
            info = layout.checkpoint.spec(weight)
            yield None, _made_up(_name(place, module, "bias"), info.dtype, info.shape[:1], _ZERO)


def _zeros(layout: Layout, place: int) -> Iterator[Replacement]:
    """An attention of zeros in the shapes and types of the first one there is; its norm's gain is 1."""
    for _, like in _attention(layout, layout.attention_layers[0], place):
        is_gain = like.name.endswith("input_layernorm.weight")
        yield None, _made_up(like.name, like.dtype, like.shape, _ONE.get(like.dtype, _ZERO) if is_gain else _ZERO)


def _made_up(name: str, dtype: str, shape: tuple[int, ...], pattern: bytes) -> NewTensor:
    nbytes = int(np.prod(shape)) * STORAGE_TYPES[dtype].itemsize
    return NewTensor(name, dtype, shape, (repeated(pattern, nbytes // len(pattern)),))


def _taken(layout: Layout, name: str, source: str, axis: int | None = None) -> Replacement:
    """The tensor ``source`` under another name, along ``axis`` filled up with zeros to a width that readers know."""
    info = layout.checkpoint.spec(source)
    stored, size, shape = layout.checkpoint.byte_range(source), STORAGE_TYPES[info.dtype].itemsize, list(info.shape)
    parts: tuple[Part, ...] = (stored,)
    if axis is not None and (extra := widened(shape[axis]) - shape[axis]):
        shape[axis] += extra
        if axis == 0:
            parts = (*parts, repeated(_ZERO, extra * shape[1] * size))
        else:
            parts = (padded(stored, info.shape[1] * size, extra * size),)
    return source, NewTensor(name, info.dtype, tuple(shape), parts)
