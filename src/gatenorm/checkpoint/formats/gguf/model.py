"""A GGUF file as the model in it: transformers' names of tensors, the terms of ``config.json``."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gatenorm.checkpoint.dialect import Dialect
from gatenorm.checkpoint.dtypes import Bits, Float32
from gatenorm.checkpoint.formats.gguf.header import Header, read_header
from gatenorm.checkpoint.formats.gguf.metadata import check_model, head_dim
from gatenorm.checkpoint.formats.gguf.store import GgufStore
from gatenorm.errors import CheckpointError

_BLOCK = re.compile(r"blk\.(\d{1,4})\.(.+)")
_EMBEDDING = "token_embd.weight"
_SPECIAL = ("bos", "eos", "padding")
# Keys that repeat what tensors say.
_REPEATED = ("vocab_size",)
_SCALING = "rope.scaling."
_PARAMETERS = {"original_context_length": "original_max_position_embeddings", "attn_factor": "attention_factor"}


class GgufModel(GgufStore):
    """A GGUF file whose tensors are read as transformers has them: rows in its order, gains less its offset.

    Tensors and keys for which ``dialect`` has no name keep their own, so that whoever must know all of them sees them.

    Raises:
        CheckpointError: it is no whole GGUF file, or no language model's.
    """

    def __init__(self, path: Path, header: Header, dialect: Dialect):
        super().__init__(path, header)
        check_model(path, self.metadata)
        if _EMBEDDING not in self.specs:
            raise CheckpointError("gguf-no-model", f"{path} has no {_EMBEDDING}: is it a language model?")
        self._head_dim = head_dim(self.metadata)
        if dialect.names.interleaved and self._head_dim % 2:
            raise CheckpointError("gguf-no-model", f"{path} has heads of {self._head_dim} dimensions, an odd number")
        self._gain_offset = dialect.gain_offset
        self._interleaved: set[str] = set()
        self.config = dict(_config(self, dialect, self._head_dim))
        count = self.metadata[f"{self.metadata['general.architecture']}.block_count"]
        if dialect.layers is not None and len(dialect.layers) != count:
            problem = f"{path} has {count} blocks, its record speaks of {len(dialect.layers)}"
            raise CheckpointError("gguf-no-model", problem)
        specs = {}
        for stored in self.specs.values():
            name = self._name(stored.name, dialect)
            if name in specs:
                raise CheckpointError("gguf-no-model", f"{path} has two tensors for {name}")
            specs[name] = replace(stored, name=name)
        self.specs = specs

    def raw(self, name: str, rows: slice | None = None) -> Bits:
        spec = self.spec(name)
        if name in self._interleaved:
            return self._in_halves(name, rows)
        bits = super().raw(name, rows)
        if not (self._gain_offset and len(spec.shape) == 1 and name.endswith("norm.weight")):
            return bits
        if spec.dtype != "F32":  # which llama.cpp does not load either
            raise CheckpointError("dtype-no-floats", f"{self.path}: {name} is stored as {spec.dtype}", expected="F32")
        gains: Float32 = np.asarray(bits, np.float32)
        return gains - np.float32(self._gain_offset)

    def _in_halves(self, name: str, rows: slice | None) -> Bits:
        """Rows of a tensor with heads: only whole heads can be put in order."""
        size, count = self._head_dim, self.spec(name).shape[0]
        begin, end, _ = (rows or slice(None)).indices(count)
        first = begin - begin % size
        pairs = super().raw(name, slice(first, min(count, -(-end // size) * size)))
        return in_halves(pairs, size)[begin - first : max(begin, end) - first]

    def _name(self, stored: str, dialect: Dialect) -> str:
        block = _BLOCK.fullmatch(stored)
        names, own = (dialect.names.block, block[2]) if block else (dialect.names.outer, stored)
        module, dot, parameter = own.rpartition(".")
        if own in names:
            name = names[own]
        elif module in names:
            name = f"{names[module]}{dot}{parameter}"
        else:
            return stored
        if block:
            place = int(block[1])
            if dialect.layers is not None and place < len(dialect.layers):
                place = dialect.layers[place]
            name = f"{dialect.path}.{place}.{name}"
        if block and module in dialect.names.interleaved:
            self._interleaved.add(name)
        return name


class GgufFile(GgufStore):
    """A GGUF file whose names are still its own, to be :meth:`translated`."""

    dialect: ClassVar[str] = "gguf"

    def __init__(self, path: Path):
        self._header = read_header(path)
        super().__init__(path, self._header)

    def translated(self, dialect: Dialect) -> GgufModel:
        return GgufModel(self.path, self._header, dialect)


def in_halves(rows: Bits, head_dim: int) -> Bits:
    """Rows ``[heads * head_dim, ...]`` in transformers' order: those that turn together are half a head apart."""
    pairs = rows.reshape(-1, head_dim // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _config(store: GgufStore, dialect: Dialect, head_dim: int) -> Iterator[tuple[str, Any]]:
    """The terms of ``config.json``; keys of the architecture that have none there stay as they are."""
    architecture = f"{store.metadata['general.architecture']}."
    left = {
        key.removeprefix(architecture): _one(v, dialect.layers is not None)
        for key, v in store.metadata.items()
        if key.startswith(architecture)
    }
    yield from dialect.given.items()
    for key, own in dialect.names.config.items():
        if own in left:
            yield key, left.pop(own)
    yield "vocab_size", store.spec(_EMBEDDING).shape[0]
    yield "tie_word_embeddings", "output.weight" not in store
    for token in _SPECIAL:  # None, where a default of transformers would name one
        yield f"{token[:3]}_token_id", store.metadata.get(f"tokenizer.ggml.{token}_token_id")
    yield from _rotary(left, head_dim)
    yield from ((architecture + key, value) for key, value in left.items() if key not in _REPEATED)


def _rotary(left: dict[str, Any], head_dim: int) -> Iterator[tuple[str, Any]]:
    """How heads turn; what is said is taken out of ``left``."""
    scaling = {key: left.pop(key) for key in list(left) if key.startswith(_SCALING)}
    kind = scaling.pop(f"{_SCALING}type", "linear" if scaling else "none")
    if kind != "none":
        named = {key.removeprefix(_SCALING): value for key, value in scaling.items()}
        yield "rope_scaling", {"rope_type": kind, **{_PARAMETERS.get(key, key): v for key, v in named.items()}}
    dims = left.get("rope.dimension_count", head_dim)
    if dims == head_dim:
        left.pop("rope.dimension_count", None)
    else:
        yield "partial_rotary_factor", dims / head_dim
    if left.get("attention.value_length") == head_dim:
        del left["attention.value_length"]


def _one(value: Any, edited: bool) -> Any:
    """What a list by layer says where it says the same of every layer, or of all that are not edited."""
    if isinstance(value, float):  # single precision: the number that was meant is the shortest one
        return float(str(np.float32(value)))
    if not isinstance(value, list) or not value:
        return value
    same = all(one == value[0] for one in value)
    return value[0] if same else max(value) if edited else value
