"""A family applied to one checkpoint: its numbers, the names of its tensors, and what was edited in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gatenorm.checkpoint import ModelConfig, TensorStore
from gatenorm.checkpoint.quantisation import unprunable_by
from gatenorm.families.family import counted_layers, mlp_modules, positive, refusal, tower_config, value
from gatenorm.families.rotary import Rotary
from gatenorm.families.schema import Block, Family, Mlp, Norms, Roles
from gatenorm.records import ATTENTION, KINDS, MLP, Edits, ModelIdentity, PrunedRecord, spans


@dataclass(frozen=True)
class Heads:
    """The heads of layers that differ from others: the family as it applies to them, and their numbers."""

    data: Family
    kv_heads: int
    head_dim: int
    value_dim: int


@dataclass(frozen=True)
class Layout:
    """What was understood of one checkpoint.

    ``layers`` counts the blocks of the original model, ``edits`` are those that were carried out already; ``heads``
    query heads read ``kv_heads`` key heads of ``head_dim`` each; ``width`` is the residual stream's.
    Values are ``value_dim`` wide. ``latent_rank`` is the width of multi-head latent attention's latent vector, else 0.
    ``scale`` multiplies the logits, in families that scale by layer once more by a factor of the layer's own: see
    :meth:`logit_scale`. ``rotary`` says how heads turn, ``other_rotary`` how those layers do that differ: see
    :meth:`rotary_of`. ``stored`` are names of submodules in the files, where they differ.
    ``other_mixers`` are the layers that have another mixer than softmax attention, ``other_heads`` those whose heads
    are other ones than the numbers here say: see :meth:`at`. Layers in ``key_sources`` read the keys and values of
    another one, whose attention must therefore stay. ``block`` and ``per_layer``
    are the family's instructions for surgery. ``assumed`` says that the family is not what ``model_type`` names, and
    ``assumption``, for people, what is known of that.
    """

    checkpoint: TensorStore
    model_type: str
    data: Family
    layers: int
    edits: Edits
    pruned: PrunedRecord | None
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    latent_rank: int
    context: int | None
    scale: float
    softcap: float | None
    rotary: Rotary | None
    prefix: str
    assumed: bool
    assumption: str = ""
    other_rotary: Mapping[int, Rotary | None] = field(default_factory=dict)
    stored: Mapping[str, str] = field(default_factory=dict)
    other_mixers: tuple[int, ...] = ()
    other_heads: Mapping[int, Heads] = field(default_factory=dict)
    key_sources: Mapping[int, int] = field(default_factory=dict)

    def at(self, layer: int) -> Layout:
        """The same with the numbers of one layer's heads."""
        own = self.other_heads.get(layer)
        if own is None:
            return self
        return replace(self, data=own.data, kv_heads=own.kv_heads, head_dim=own.head_dim, value_dim=own.value_dim)

    @property
    def read_by_others(self) -> tuple[int, ...]:
        """The layers whose keys and values another layer that has its attention reads."""
        reading = {source for layer, source in self.key_sources.items() if layer not in self.edits.attention}
        return tuple(sorted(reading))

    def resumed_at(self, layer: int) -> int:
        """The block at which a pass must begin that is to start at ``layer``: behind none whose keys others read."""
        return min((layer, *self.key_sources.values()))

    def removable(self, kind: str) -> tuple[int, ...]:
        """The layers that still have all that a removal of ``kind`` takes, and that nothing forbids, in original
        indices: what shares of sublayers are shares of.

        Args:
            kind: ``attention``, ``mlp``, or ``block`` for both.
        """
        gone = {layer for sublayer in KINDS[kind] for layer in self.edits.layers_of(sublayer)}
        if ATTENTION in KINDS[kind]:
            gone.update(self.other_mixers, self.read_by_others)
        if MLP in KINDS[kind] and not self.block.branch:
            return ()
        return tuple(i for i in range(self.layers) if i not in gone)

    @property
    def counted_layers(self) -> tuple[int, ...]:
        """The layers that the config counts, and its lists by layer speak of."""
        return counted_layers(self.data, self.layers, self.edits)

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """The layers that still have attention, in original indices."""
        gone = {*self.edits.attention, *self.other_mixers}
        return tuple(layer for layer in range(self.layers) if layer not in gone)

    @property
    def mlp_layers(self) -> tuple[int, ...]:
        """The layers that still have an MLP, in original indices."""
        return self.removable(MLP)

    @property
    def config(self) -> ModelConfig:
        """The config of the language model, which is a part of ``config.json`` where that describes a larger model."""
        return tower_config(self.data, self.checkpoint.config)

    @property
    def base_only(self) -> bool:
        """Whether the files are those of a base model, without the causal LM's first component in their names."""
        return self.prefix == self.block.path.split(".", 1)[1]

    def is_own(self, tensor: str) -> bool:
        """Whether a tensor is the language model's, and not that of another part of a larger model."""
        if not self.data.tower:
            return True
        blocks = self.block.path.removeprefix(self.data.tower.path)
        head = self.data.outer.head if self.data.outer else "lm_head"
        base = self.prefix.removesuffix(blocks) if self.prefix.endswith(blocks) else self.prefix.rpartition(".")[0]
        return tensor.startswith(base + ".") or tensor.endswith(f"{head}.weight")

    @property
    def nbytes(self) -> int:
        """Bytes of all weight files."""
        return sum(self.checkpoint.files.values())

    @property
    def shape(self) -> str:
        return self.data.shape

    @property
    def roles(self) -> Roles:
        return self.data.roles

    @property
    def projections(self) -> dict[str, str]:
        """The submodules that hold an attention's matrices, by role: ``q``, ``k``, ``v`` and ``o``; ``qkv`` where they
        are fused, and ``q_down``, ``q_up``, ``kv_down``, ``kv_up`` where they go through a latent vector.
        """
        if not self.data.latent:
            return self.roles.modules
        factors = {"q": self.data.latent.q, "kv": self.data.latent.kv}
        whole = {role: module for role, module in self.roles.modules.items() if not factors.get(role)}
        ends = {role: {"down": one.down, "up": one.up} for role, one in factors.items() if one}
        return whole | {f"{role}_{end}": module for role, modules in ends.items() for end, module in modules.items()}

    @property
    def norms(self) -> Norms:
        return self.data.norms

    @property
    def block(self) -> Block:
        return self.data.block

    @property
    def mlp(self) -> Mlp:
        """The modules of its MLPs, where they are dense."""
        assert self.data.mlp is not None
        return self.data.mlp

    def branch_factor(self, sublayer: str) -> float:
        """The factor on what a sublayer adds to the residual stream: 1 in most families."""
        key = self.block.multiplier
        key = key.get(sublayer) if isinstance(key, Mapping) else key
        return positive(key, value(self.config, self.data, key)) if key else 1.0

    @property
    def input_factor(self) -> float:
        """The factor on what the norm in front of the attention makes: 1 in most families."""
        key = self.norms.multiplier
        return positive(key, value(self.config, self.data, key)) if key else 1.0

    @property
    def window(self) -> int | None:
        """How many tokens back attention looks, in layers that have a window; ``None`` where none has."""
        rule, config = self.data.window, self.config
        if rule is None or (rule.switch and not value(config, self.data, rule.switch)):
            return None
        size = value(config, self.data, rule.key)
        return size if isinstance(size, int) else None

    @property
    def turning(self) -> int:
        """How many dimensions of a head turn at most."""
        return max((one.dims for one in (self.rotary, *self.other_rotary.values()) if one is not None), default=0)

    @property
    def cached_width(self) -> int:
        """What the cache of one layer holds of a token, in elements: keys and values, or what they are made of."""
        if self.latent_rank:
            return self.latent_rank + self.turning
        return self.kv_heads * (self.head_dim + self.value_dim)

    @property
    def scales_by_layer(self) -> bool:
        """Whether the factor on the logits is another one in every layer."""
        return self.data.scale_by_layer is not None

    def logit_scale(self, layer: int) -> float:
        """The factor on the logits of one layer: ``scale``, or ``scale / (layer + 1)`` where the family says so."""
        return self.scale / (layer + 1) if self.scales_by_layer else self.scale

    def rotary_of(self, layer: int) -> Rotary | None:
        """How the heads of one layer turn; ``None`` where they do not."""
        return self.other_rotary.get(layer, self.rotary)

    def tensor(self, layer: int, name: str) -> str:
        """The full name of ``name`` in block ``layer``, as the files spell it."""
        module, dot, rest = name.partition(".")
        return f"{self.prefix}.{layer}.{self.stored.get(module, module)}{dot}{rest}"

    def removed_with(self, layer: int) -> tuple[str, ...]:
        """Prefixes of the tensors that go when this layer's attention goes."""
        return tuple(self.tensor(layer, module) + "." for module in self.block.attention)

    def refusal(self) -> str | None:
        """Why this checkpoint must not be pruned, or ``None``."""
        classes, config = self.data.classes, self.checkpoint.config
        given = config.get("architectures") or []
        if not isinstance(given, list):
            return f"config.json says architectures {given!r:.80}, which is no list of class names"
        written_for = [str(a) for a in given]
        # A pruned model names classes of ours, and whoever assumes a family vouches for its classes too.
        if written_for and not (self.edits or self.assumed) and not {*classes.to_dict().values()} & {*written_for}:
            return f"config.json says architectures {written_for}, and only {classes.causal_lm} can be pruned"
        unprunable = unprunable_by(self.checkpoint.quantised_by)
        if unprunable:
            return unprunable
        lacking = self.lacking()
        if lacking:
            return f"its files lack {lacking}, so that they can be scored and not pruned: fetch the whole model"
        return refusal(self.data, self.config)

    def lacking(self) -> str | None:
        """What every model has and these files lack, for people: MLP weights, embeddings; ``None`` where nothing is.

        Told by names and shapes. Base models have no head, so it is not looked for.
        """
        matrices = [t.name for t in self.checkpoint.specs.values() if len(t.shape) == 2 and self.is_own(t.name)]
        blocks = tuple(name for name in matrices if name.startswith(self.prefix + "."))
        bare = []
        for layer in self.mlp_layers:
            modules = tuple(self.tensor(layer, module) + "." for module in mlp_modules(self.data))
            if not any(name.startswith(modules) for name in blocks):
                bare.append(layer)
        lacking = [f"the MLP weights of layers {spans(bare)}"] if bare else []
        if len(blocks) == len(matrices):
            lacking.append("the embeddings")
        return " and ".join(lacking) or None

    @property
    def recovered(self) -> bool:
        """Whether it was trained after its last pruning, as ``gatenorm recover`` notes in ``config.json``."""
        return bool(self.pruned and self.pruned.recovery)

    def identity(self) -> ModelIdentity:
        """What records say of the checkpoint they speak of."""
        checkpoint = self.checkpoint
        return ModelIdentity(
            name=checkpoint.name,
            model_type=self.model_type,
            layers=self.layers,
            config_sha256=checkpoint.config_sha256,
            files=checkpoint.files,
            sample_sha256=checkpoint.sample_sha256(),
            recovered=self.recovered,
            assumption=self.assumption,
            commit=checkpoint.commit,
        )
