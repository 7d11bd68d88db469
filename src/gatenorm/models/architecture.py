"""What a model's sublayers are made of, counted from its config and headers alone: parameters, FLOPs, cache bytes.

A *sublayer* is one block's attention, with the norms that go when it goes, or everything else in that block (the MLP
and what it needs), or what stands in the place of either. Counts are exact; tests hold them to real transformers models
of every family.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from gatenorm.checkpoint import TensorSpec
from gatenorm.families import Layout, keep_entries
from gatenorm.families.family import value
from gatenorm.models.weight_count import Mixture, WeightCount
from gatenorm.records import Edit, Edits
from gatenorm.surgery.operation import added_tensors, is_removed, operation_named

# Modules that are looked up by row and multiply nothing, by the last part of their names.
_LOOKUPS = (
    "embed_tokens",
    "embed_tokens_per_layer",
    "embed_positions",
    "embed_in",
    "embeddings",
    "wte",
    "wpe",
    "word_embeddings",
)
_NO_PARAMETERS = (
    "inv_freq",
    "gate.e_score_correction_bias",
    "block_sparse_moe.e_score_correction_bias",
    "feed_forward.expert_bias",
    "layer_scalar",
)
# How configs call an attention that looks back a fixed number of tokens. Caches of the first kind forget what is older.
# A chunk is counted as a window of its length, though its first tokens see less.
_FORGETS, _WINDOWED = ("sliding_attention", "chunked_attention"), ("sliding_attention", "local", "chunked_attention")

# Quantised models compute, and keep what they computed, in 16 bits.
_LEAST_CACHED = 2.0


@dataclass(frozen=True)
class Work:
    """One pass through the model: ``tokens`` new ones in each of ``batch`` sequences, behind ``past`` cached ones."""

    tokens: int
    batch: int = 1
    past: int = 0

    @classmethod
    def prefill(cls, tokens: int, batch: int = 1) -> Work:
        """A prompt of ``tokens`` tokens."""
        return cls(tokens, batch)

    @classmethod
    def decode(cls, context: int, batch: int = 1) -> Work:
        """One more token behind ``context`` cached ones."""
        return cls(1, batch, context)


@dataclass(frozen=True)
class HeadCounts:
    """The heads of one layer, and how many elements of a token stay in its cache: keys and values, the latent vector of
    both, or nothing, where it reads those of another layer.
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    cached_width: int

    @classmethod
    def of(cls, layout: Layout, layer: int) -> HeadCounts:
        own = layout.at(layer)
        cached = 0 if layer in layout.key_sources else own.cached_width
        return cls(own.heads, own.kv_heads, own.head_dim, own.value_dim, cached)

    @property
    def pair(self) -> int:
        """Multiplications for each query and what it sees, of ``Q K^T`` and of the weighted values."""
        return self.heads * (self.head_dim + self.value_dim)


@dataclass(frozen=True)
class Architecture:
    """A language model as numbers: what runs, how large it is, and how far its attention sees.

    Of a larger model, its language model alone is counted: what reads images is not.

    Attributes:
        attention, heads: by original layer number, for the layers that have it.
        windows: how many tokens, itself included, a query of that layer sees at most; ``None``: all before it.
        forgets: whether the caches of windowed layers drop what no query will see again.
        mlp: one a block: all of it that is not attention's, nor in the place of something.
        without_mlp: original numbers of the blocks whose MLP is gone: what is left there multiplies nothing.
        replaced: what stands in the place of sublayers, by edit.
        outer: embeddings, norms and projections around the blocks. Of these, ``around`` multiplies every token
            (OPT-350m projects embeddings up and down), and ``head`` makes logits.
        rotary: how many of a head's dimensions turn.
        itemsize: bytes an element of the matrices takes as stored.
    """

    width: int
    rotary: int
    itemsize: float
    attention: Mapping[int, WeightCount]
    heads: Mapping[int, HeadCounts]
    windows: Mapping[int, int | None]
    forgets: bool
    mlp: tuple[WeightCount, ...]
    outer: WeightCount
    around: WeightCount
    head: WeightCount
    without_mlp: tuple[int, ...] = ()
    replaced: Mapping[Edit, WeightCount] = field(default_factory=dict)

    @classmethod
    def of(cls, layout: Layout, edits: Edits = Edits()) -> Architecture:  # noqa: B008 - it is frozen
        """Count a checkpoint; only names and shapes are looked at, so it may lie on the hub.

        Args:
            edits: count what would be left of it after these edits, besides its own.
        """
        removed = is_removed(layout, edits)
        own = (t for t in layout.checkpoint.specs.values() if layout.is_own(t.name) and _is_parameter(t))
        stored = [t for t in own if not removed(t.name)]
        gone = layout.edits | edits
        like = stored[0]
        added = added_tensors(layout, gone)  # those of the checkpoint's own edits are stored
        stored += [
            TensorSpec(name, like.dtype, shape, prod(shape) * like.nbytes // prod(like.shape))
            for name, (_, _, shape) in added.items()
            if name not in layout.checkpoint
        ]
        attention, mlp, mixture = {}, [], Mixture.of(layout)
        inside: set[str] = set()
        for layer in range(layout.layers):
            block = [t for t in stored if t.name.startswith(f"{layout.prefix}.{layer}.")]
            inside.update(t.name for t in block)
            prefixes = layout.removed_with(layer)
            has = layer in layout.attention_layers and layer not in gone.attention
            attending = [t for t in block if has and t.name.startswith(prefixes)]
            if has:
                attention[layer] = WeightCount.of(attending)
            mlp.append(WeightCount.of((t for t in block if t not in attending and t.name not in added), mixture))
        outside = [t for t in stored if t.name not in inside]
        matrices = [t for t in stored if t.name in inside and len(t.shape) == 2]
        head = _head(outside, layout)
        around = [t for t in outside if len(t.shape) == 2 and not _is_lookup(t) and t not in head]
        windows, forgets = _windows(layout)
        windows = {layer: size for layer, size in windows.items() if layer in attention}
        return cls(
            width=layout.width,
            rotary=max((one.dims for layer in attention if (one := layout.rotary_of(layer))), default=0),
            itemsize=sum(t.nbytes for t in matrices) / max(1, sum(prod(t.shape) for t in matrices)),
            attention=attention,
            heads={layer: HeadCounts.of(layout, layer) for layer in attention},
            windows=windows,
            forgets=forgets and any(windows.values()),
            mlp=tuple(mlp),
            outer=WeightCount.of(outside),
            around=WeightCount.of(around),
            head=WeightCount.of(head),
            without_mlp=_idle(layout, gone) if layout.block.branch else tuple(attention.keys() | {*gone.attention}),
            replaced={
                edit: WeightCount.of_operation(edit.operation, layout.width)
                for edit in gone
                if operation_named(edit.operation).update is not None
            },
        )

    @property
    def parameters(self) -> int:
        """All parameters; a tied head counts once."""
        inner = (*self.attention.values(), *self.mlp, *self.replaced.values())
        return self.outer.parameters + sum(part.parameters for part in inner)

    @property
    def runs(self) -> bool:
        """Whether the checkpoint holds a whole model: files of an attention study, say, lack the MLPs."""
        mlps = all(s.matrix for layer, s in enumerate(self.mlp) if layer not in self.without_mlp)
        return bool(self.attention and self.head.matrix and mlps)

    def pairs(self, layer: int, work: Work) -> int:
        """Query-key pairs of one sequence and head: ``sum over i = 1..tokens of min(past + i, window)``.

        Plain matrix products, and FLOP counters, have those too that a causal mask hides: ``tokens x (past + tokens)``.
        """
        new, past, window = work.tokens, work.past, self.windows[layer]
        growing = new if window is None else min(max(window - past, 0), new)
        whole = 0 if window is None else (new - growing) * window
        return growing * past + growing * (growing + 1) // 2 + whole

    def score_flops(self, layer: int, work: Work) -> int:
        """FLOPs of ``Q K^T`` and of the weighted values: ``2 x heads x (head_dim + value_dim) x pairs x batch``."""
        return 2 * self.heads[layer].pair * self.pairs(layer, work) * work.batch

    def attention_flops(self, layer: int, work: Work) -> int:
        """FLOPs of one attention sublayer: its four projections and the part that grows with the square."""
        return self.attention[layer].flops(work.tokens * work.batch) + self.score_flops(layer, work)

    def cached_tokens(self, layer: int, tokens: int) -> int:
        """Tokens that the cache of one layer holds after ``tokens`` were seen: all, or what the next can still see."""
        window = self.windows[layer]
        return tokens if window is None or not self.forgets else min(tokens, window - 1)

    @property
    def cache_itemsize(self) -> float:
        """Bytes an element of keys and values takes: as a stored weight, and two where weights are quantised."""
        return max(self.itemsize, _LEAST_CACHED)

    def cache_bytes(
        self, tokens: int, batch: int = 1, itemsize: float | None = None, without: Collection[int] = ()
    ) -> float:
        """Bytes of keys and values: ``sum over layers of cached_width x tokens x batch x itemsize``.

        Args:
            itemsize: bytes an element; by default :attr:`cache_itemsize`.
            without: layers whose attention is to go.
        """
        size = self.cache_itemsize if itemsize is None else itemsize
        kept = (layer for layer in self.attention if layer not in without)
        return sum(self.heads[layer].cached_width * self.cached_tokens(layer, tokens) for layer in kept) * batch * size


def _idle(layout: Layout, gone: Edits) -> tuple[int, ...]:
    """The blocks in which nothing but an attention, if that, is left: others have more than attention and MLP."""
    return () if layout.block.rest else tuple(layer for layer in gone.mlp if layer not in layout.other_mixers)


def _is_parameter(tensor: TensorSpec) -> bool:
    """Buffers are stored as well: masks [1, 1, n, n], scalars, rotary frequencies, and what balances experts."""
    return len(tensor.shape) in (1, 2, 3) and not tensor.name.endswith(_NO_PARAMETERS)


def _head(outside: list[TensorSpec], layout: Layout) -> list[TensorSpec]:
    """The matrix that makes logits: one of its own, or the embedding once more where they are tied."""
    rows = value(layout.config, layout.data, "vocab_size")
    large = [t for t in outside if len(t.shape) == 2 and t.shape[0] == rows]
    # The head comes last where there are two; where there is one, it serves twice.
    return sorted(large, key=_is_lookup)[:1]


def _is_lookup(tensor: TensorSpec) -> bool:
    return tensor.name.removesuffix(".weight").rpartition(".")[2] in _LOOKUPS


def _windows(layout: Layout) -> tuple[dict[int, int | None], bool]:
    """How far the attention of each layer sees, and whether its cache forgets the rest."""
    attending, size = layout.counted_layers, layout.window
    if size is None:
        return dict.fromkeys(attending), False
    kinds = _kinds(keep_entries(layout.config, layout.data, len(attending), range(len(attending))))
    if kinds is None:  # no list: every layer has the window
        return dict.fromkeys(attending, size), True
    windows = {layer: size if kind in _WINDOWED else None for layer, kind in zip(attending, kinds, strict=True)}
    return windows, bool({*_FORGETS} & {*kinds})


def _kinds(entries: Mapping[str, Any]) -> list[str] | None:
    if "layer_types" in entries:
        return list(entries["layer_types"])
    nested = entries.get("attention_types")
    return list(nested[0][0]) if nested else None
