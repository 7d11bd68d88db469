"""What the JSON of a family in ``families/data`` holds, key by key; CONTRIBUTING.md says how to write one.

Where another family's keys are inherited, objects are merged, and everything else is replaced. A *key* is one of
``config.json``, a *module* one of a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from msgspec import field

from gatenorm.checkpoint import FormatNames
from gatenorm.records import BlockShape, Value

# A number, or keys, of which the first one present counts, before any default; a list of keys is their sum.
Number = int | tuple[str | tuple[str, ...], ...]


class Classes(Value, frozen=True, omit_defaults=True):
    """Names of the transformers classes."""

    config: str
    model: str  # the base model's
    causal_lm: str


class Tower(Value, frozen=True, omit_defaults=True):
    """Where the language model is a part of a larger one: all other keys are those of its family, but for those that
    stand here too.
    """

    family: str  # which it is unless its own config names another
    config: str  # the key of that config; where it is absent, its numbers stand beside the rest
    path: str  # of its base model in the whole
    named: str | None = None  # what a family without a causal LM of its own calls itself in that config


class Dimensions(Value, frozen=True, omit_defaults=True):
    """The numbers of the model."""

    layers: tuple[str, ...]
    width: Number
    heads: Number
    kv_heads: Number
    context: Number
    head_dim: Number = ()  # width / heads
    value_dim: Number = ()  # head_dim
    latent_rank: Number = ()
    unused_layers: Number = ()  # in files, but not built by transformers


class Block(BlockShape, frozen=True, omit_defaults=True):
    """A block, and what is said of it for those who read and write files."""

    rest: tuple[str, ...] = ()  # modules of neither sublayer, which always stay
    by_index: bool = False  # it is made after its number, and lists by layer do not say how
    stored: Mapping[str, str] = {}  # modules that files call otherwise, with that name
    base: tuple[str, ...] = ()  # other names of the base model in files
    paths: tuple[str, ...] = ()  # other names of the block list in files


class Mixers(Value, frozen=True, omit_defaults=True):
    """Where some layers have another mixer than softmax attention, and are left alone."""

    attention: tuple[str, ...]  # entries of the list for softmax attention
    kinds: str = "layer_types"  # key of the list by layer that says which mixer a layer has


class Roles(Value, frozen=True, omit_defaults=True):
    """The modules of an attention by what they make; ``qkv`` where they hold the first three in one."""

    o: str
    q: str | None = None
    k: str | None = None
    v: str | None = None
    qkv: str | None = None
    # ``stacked``: all query rows, then key rows, then value rows; ``grouped``: for every key head its query heads, the
    # key head, the value head.
    fused: Literal["stacked", "grouped"] | None = None
    transposed: bool = False  # weights are stored [in, out]
    sinks: str | None = None  # logits of a head that no token answers to
    q_gate: bool = False  # behind the query of each head stand as many rows of a gate on its output

    @property
    def modules(self) -> dict[str, str]:
        """Those that hold its matrices, by role."""
        held = {"qkv": self.qkv} if self.qkv else {"q": self.q, "k": self.k, "v": self.v}
        return {role: module for role, module in {**held, "o": self.o}.items() if module}


class Factors(NamedTuple):
    """The modules of a projection through a latent vector."""

    down: str
    norm: str
    up: str


class Latent(Value, frozen=True, omit_defaults=True):
    """Multi-head latent attention."""

    kv: Factors
    q: Factors | None = None  # None where queries are projected at once


class Differing(Value, frozen=True, omit_defaults=True):
    """Where layers differ in more than lists by layer say."""

    kinds: str  # key of the list whose entry a layer's config has as ``layer_type``, for which ``variants`` may ask
    shared: str  # key of how many layers at the end read the keys and values of the last one before them of their kind


class Norms(Value, frozen=True, omit_defaults=True):
    """The norms of an attention: modules, or none."""

    kind: Literal["rms", "layer"]
    gain_offset: float  # the gain is that + weight
    input: str | None
    output: str | None = None
    q: str | None = None
    k: str | None = None
    v: bool = False  # values are normed, without weights
    plain: tuple[str, ...] = ()  # those of them without weights
    turning: bool = False  # queries and keys are normed only in layers where they turn
    multiplier: str = ""  # key of a factor on what the input norm makes

    def module(self, norm: str) -> str | None:
        """That of the ``input``, ``output``, ``q`` or ``k`` norm."""
        found: str | None = getattr(self, norm)
        return found


class RotaryKeys(Value, frozen=True, omit_defaults=True):
    """How heads turn: keys, and what counts where a config has none of them."""

    theta: tuple[str, ...] = ("rope_theta",)
    default_theta: float = 10000.0
    fraction: tuple[str, ...] = ()
    default_fraction: float = 1.0
    default_scaling: Mapping[str, Any] = {}  # rope parameters
    scaled: bool = True  # by ``rope_scaling``
    dims: str = ""  # key of how many dimensions turn
    place: Literal["start", "end"] = "start"  # where in a head those are
    pairs: Literal["half", "interleaved"] = "half"  # dimension j turns with j + dims/2, or 2j with 2j + 1
    kinds: str = "layer_types"  # key of the list by layer that says how layers differ
    by_kind: Mapping[str, RotaryKeys | None] = {}  # how layers with an entry turn that differ; None: they do not


class LayerList(Value, frozen=True, omit_defaults=True):
    """A key that holds one entry a layer, and how to fill it in where it is left out."""

    key: str
    letters: str = ""  # from a text (key) with a letter a layer, which ``words`` translates
    by: str = ""  # from the entries of this list by layer, which ``words`` translates
    words: Mapping[str, str] = {}
    pattern: tuple[str, ...] = ()  # which repeats itself
    values: tuple[str | int, ...] = ()  # two: what stands in most layers, and what in those that the next lines name
    every: str = ""  # the last of so many layers (key)
    at: str = ""  # or this one of them (key)
    indices: str = ""  # the layers that this lists (key)
    start: str = field(name="from", default="")  # from this layer on (key)
    switches: tuple[str, ...] = field(name="if", default=())  # where all of these are set
    nested: bool = False  # it is written as runs
    expanded: str = ""  # the key under which it is written in full besides


class Window(Value, frozen=True, omit_defaults=True):
    """How many tokens back attention looks."""

    key: str
    switch: str | None = field(name="if", default=None)  # the key that switches it on


class Mlp(Value, frozen=True, omit_defaults=True):
    """The modules of a dense MLP, ``down(act(gate(x)) * up(x))``."""

    up: str
    down: str
    activation: str  # key
    gate: str | None = None  # None where ``up`` holds both, or where there is none


class Experts(Value, frozen=True, omit_defaults=True):
    """Keys of a mixture in the place of an MLP."""

    count: tuple[str, ...]  # how many experts there are
    active: tuple[str, ...] = ("num_experts_per_tok",)  # how many of them a token runs through


class Outer(Value, frozen=True, omit_defaults=True):
    """The modules around the blocks in the causal LM."""

    embedding: str
    norm: str
    head: str


class TokenizerClass(Value, frozen=True, omit_defaults=True):
    """The tokenizer class that transformers takes for this ``model_type``."""

    name: str = field(name="class")
    when: Literal["undeclared", "always"] = "undeclared"  # where the checkpoint names none, or whatever it names


class Refusal(Value, frozen=True, omit_defaults=True):
    """What this release must not touch: ``when`` the config has certain values."""

    when: Mapping[str, Any]
    why: str


class Variant(Value, frozen=True, omit_defaults=True):
    """A change to the family ``when`` the config has certain values."""

    when: Mapping[str, Any]
    then: Mapping[str, Any]


class Family(Value, frozen=True, omit_defaults=True):
    """One architecture: what it calls its tensors and which shape its blocks have."""

    model_type: str  # of the configs that it describes
    classes: Classes
    shape: Literal["sequential", "parallel", "post-norm", "sandwich"]  # where the norms stand (for people)
    defaults: Mapping[str, Any]  # values of keys where a checkpoint leaves them out
    dimensions: Dimensions
    block: Block
    roles: Roles
    norms: Norms
    rotary: RotaryKeys | None
    # The factor on the logits: a number, or the product of powers of config values, ``head_dim`` among them.
    scale: float | tuple[tuple[str, float], ...]
    like: str = ""  # another family whose keys it inherits
    tower: Tower | None = None
    mixers: Mixers | None = None
    latent: Latent | None = None
    differing: Differing | None = None
    yarn_scale: bool = False  # the factor is multiplied by one of YaRN's (see `Rotary.yarn_scale`)
    scale_by_layer: Literal["inverse"] | None = None  # the factor of layer i, counted from 0, is that / (i + 1)
    softcap: str | None = None  # key of the cap on the logits
    per_layer: tuple[LayerList, ...] = ()
    window: Window | None = None  # for engines that know no windows
    mlp: Mlp | None = None
    mixture: Experts | None = None
    no_bound: str = ""  # why heads are not bounded by their gate norms
    unlike_llama: str = ""  # why exports that know only Llama's blocks cannot hold it, if nothing else here says so
    outer: Outer | None = None
    tokenizer: TokenizerClass | None = None
    dialects: Mapping[str, FormatNames | None] = {}  # by format with names of its own: ``gguf``
    refuse: tuple[Refusal, ...] = ()
    variants: tuple[Variant, ...] = ()  # applied in order
