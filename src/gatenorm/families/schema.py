"""What the JSON of a family in ``families/data`` holds, key by key; CONTRIBUTING.md says how to write one.

Where another family's keys are inherited, objects are merged, and everything else is replaced. A ``key`` is one of
``config.json``, and a module one of a block, unless something else is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import field

from gatenorm.families.attention_schema import Differing, Latent, Mixers, Norms, Roles, RotaryKeys
from gatenorm.records import Value

# A number, or config keys, of which the first one present counts, before any default; a list of keys is their sum.
Number = int | tuple[str | tuple[str, ...], ...]


class Classes(Value, frozen=True, omit_defaults=True):
    """Names of the transformers classes."""

    config: str
    model: str
    causal_lm: str


class Tower(Value, frozen=True, omit_defaults=True):
    """Where the language model is a part of a larger one.

    ``family`` it is unless its own config names another (``named`` is what a family without a causal LM of its own
    calls itself there), ``config`` is the key of that config (where it is absent, its numbers stand beside the rest),
    ``path`` that of its base model in the whole. All other keys come from the family of the language model; those that
    stand here as well change them.
    """

    family: str
    config: str
    path: str
    named: str | None = None


class Dimensions(Value, frozen=True, omit_defaults=True):
    """The model's numbers: ``value_dim`` is ``head_dim`` if absent, ``unused_layers`` are in files, but transformers
    does not build them.
    """

    layers: tuple[str, ...]
    width: Number
    heads: Number
    kv_heads: Number
    head_dim: Number
    context: Number
    value_dim: Number = ()
    unused_layers: Number = ()
    latent_rank: Number = ()


class Block(Value, frozen=True, omit_defaults=True):
    """What a block is made of.

    ``path`` is that of the block list in the causal LM; ``attention`` the modules that go when the sublayer goes. Then
    what stays: ``before`` (modules on the residual stream), ``branch`` (the MLP's branch, added to the stream; empty
    where MLPs are blocks of their own), ``after`` (modules on the stream), ``dropout`` (a key), ``returns`` (what the
    block's forward hands back), ``multiplier`` (key of a factor on what both branches add, or by sublayer),
    ``mlp_returns`` (``tuple`` where the MLP hands back more than the stream), ``by_position`` (the forward pass takes
    entries of lists by layer by a block's position among all), ``in_place`` (a block without attention keeps its
    forward pass and its number: it holds more than attention and MLP, or the config counts blocks as no renumbering
    could), ``beside`` (modules of the branch whose outputs are added to the last one's), ``rest`` (modules of neither
    sublayer, which always stay), ``by_index`` (a block is made after its number, and lists by layer do not say how).
    Files call some things otherwise: ``stored`` (modules, with their name there), ``base`` (the base model), ``paths``
    (the block list).
    """

    path: str
    attention: tuple[str, ...]
    before: tuple[str, ...]
    branch: tuple[str, ...]
    after: tuple[str, ...]
    dropout: str | None
    returns: Literal["tensor", "tuple"]
    multiplier: str | Mapping[str, str] | None = None
    mlp_returns: Literal["tensor", "tuple"] = "tensor"
    by_position: bool = False
    in_place: bool = False
    beside: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    by_index: bool = False
    stored: Mapping[str, str] = {}
    base: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


class LayerList(Value, frozen=True, omit_defaults=True):
    """A ``key`` that holds one entry a layer, and how to fill it in where it is left out.

    From ``letters``, the key of a text with a letter a layer, or the list ``by`` layer, whose entries ``words``
    translates; from a ``pattern`` that repeats itself; or with the first of two ``values`` but where the second stands:
    once in so many layers as ``every`` counts, the first time in layer ``at`` (a key), else the last of them; in the
    layers that ``indices`` lists; or ``from`` a layer on, where all the keys in ``if`` are set. ``nested`` lists are
    written as runs, and perhaps in full under ``expanded`` besides.
    """

    key: str
    letters: str = ""
    by: str = ""
    words: Mapping[str, str] = {}
    pattern: tuple[str, ...] = ()
    values: tuple[str | int, ...] = ()
    every: str = ""
    at: str = ""
    indices: str = ""
    start: str = field(name="from", default="")
    switches: tuple[str, ...] = field(name="if", default=())
    nested: bool = False
    expanded: str = ""


class Window(Value, frozen=True, omit_defaults=True):
    """For engines that know no windows: the ``key`` of how many tokens back attention looks, and that of what switches
    it on (``if``), or null.
    """

    key: str
    switch: str | None = field(name="if")


class Mlp(Value, frozen=True, omit_defaults=True):
    """The modules of a dense MLP, ``down(act(gate(x)) * up(x))``; ``activation`` is a key, ``gate`` null where ``up``
    holds both, or where there is none.
    """

    gate: str | None
    up: str
    down: str
    activation: str


class Experts(Value, frozen=True, omit_defaults=True):
    """Keys of a mixture: how many experts there are, and how many of them a token runs through."""

    count: tuple[str, ...]
    active: tuple[str, ...]


class Outer(Value, frozen=True, omit_defaults=True):
    """The modules around the blocks in the causal LM."""

    embedding: str
    norm: str
    head: str


class TokenizerClass(Value, frozen=True, omit_defaults=True):
    """The class that transformers takes for a ``model_type``, where the checkpoint names none or whatever it names."""

    name: str = field(name="class")
    when: Literal["undeclared", "always"]


class FormatNames(Value, frozen=True, omit_defaults=True):
    """How the files of another format name all this.

    ``architecture``, and the one as which ``pruned`` models are written; ``config`` (keys, with those of the format,
    less the architecture before them), ``outer`` and ``block`` (modules or tensors by their names in the format),
    ``interleaved`` (modules whose rows are stored in the order of interleaved rotary pairs), ``rope_factors`` (a tensor
    of factors for the rotary waves).
    """

    architecture: str
    config: Mapping[str, str]
    outer: Mapping[str, str]
    block: Mapping[str, str]
    interleaved: tuple[str, ...]
    rope_factors: str
    pruned: str | None = None


class Refusal(Value, frozen=True, omit_defaults=True):
    """What this release must not touch, ``when`` the config has certain values."""

    when: Mapping[str, Any]
    why: str


class Variant(Value, frozen=True, omit_defaults=True):
    """A change to the family ``when`` the config has certain values."""

    when: Mapping[str, Any]
    then: Mapping[str, Any]


class Family(Value, frozen=True, omit_defaults=True):
    """One architecture: what it calls its tensors and which shape its blocks have.

    Attributes:
        model_type: the ``model_type`` of ``config.json`` that it describes.
        shape: where the norms stand (for people).
        defaults: values of keys where a checkpoint leaves them out.
        scale: the factor on the logits: a number, or ``[key, power]`` pairs, whose product it is; ``head_dim`` counts
            as a key.
        softcap: key of the cap on the logits, or null.
        like: another family whose keys it inherits.
        yarn_scale: that factor is multiplied by one of YaRN's (see :attr:`Rotary.yarn_scale`).
        scale_by_layer: ``inverse``: the factor of layer i, counted from 0, is that divided by i + 1.
        no_bound: why heads are not bounded by their gate norms.
        unlike_llama: why exports that know only Llama's blocks cannot hold it, where nothing else here says so.
        dialects: its names in other formats, such as ``gguf``; null where one has no place for it.
        variants: applied in order.
    """

    model_type: str
    classes: Classes
    shape: Literal["sequential", "parallel", "post-norm", "sandwich"]
    defaults: Mapping[str, Any]
    dimensions: Dimensions
    block: Block
    roles: Roles
    norms: Norms
    rotary: RotaryKeys | None
    scale: float | tuple[tuple[str, float], ...]
    softcap: str | None
    per_layer: tuple[LayerList, ...]
    window: Window | None
    mlp: Mlp | None
    outer: Outer | None
    tokenizer: TokenizerClass | None
    like: str = ""
    tower: Tower | None = None
    mixers: Mixers | None = None
    latent: Latent | None = None
    differing: Differing | None = None
    yarn_scale: bool = False
    scale_by_layer: Literal["inverse"] | None = None
    mixture: Experts | None = None
    no_bound: str = ""
    unlike_llama: str = ""
    dialects: Mapping[str, FormatNames | None] = {}
    refuse: tuple[Refusal, ...] = ()
    variants: tuple[Variant, ...] = ()
