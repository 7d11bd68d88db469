"""A family applied to one checkpoint: numbers, names, and the weights of each layer's attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gatenorm.checkpoint import TensorStore
from gatenorm.errors import FamilyError, did_you_mean, named
from gatenorm.families.attention import AttentionWeights
from gatenorm.families.completeness import missing
from gatenorm.families.family import Data, families, family, positive, refusal, value
from gatenorm.families.rotary import Rotary
from gatenorm.records import ATTENTION, KINDS, MLP, PRUNED_PREFIX, Edits, ModelIdentity, PrunedRecord, from_json

# No dimension of a model comes near; without a limit a config could ask for more memory than there is.
LARGEST = 2**31 - 1
# Names that stand beside, or instead of, a weight whose stored numbers are codes.
_QUANTISED = (".weight_scale", ".weight_scale_inv", ".weight_packed", ".qweight", ".weight.absmax", ".SCB")


@dataclass(frozen=True)
class Layout:
    """What was understood of one checkpoint.

    ``layers`` counts the blocks of the original model, ``edits`` are those that were carried out already; ``heads``
    query heads read ``kv_heads`` key heads of ``head_dim`` each; ``width`` is the residual stream's.
    ``scale`` multiplies the logits, in families that scale by layer once more by a factor of the layer's own: see
    :meth:`logit_scale`. ``block`` and ``per_layer`` are the family's instructions for surgery.
    """

    checkpoint: TensorStore
    model_type: str
    data: Data
    layers: int
    edits: Edits
    pruned: PrunedRecord | None
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int | None
    scale: float
    softcap: float | None
    rotary: Rotary | None
    prefix: str
    assumed: bool

    def layers_with(self, kind: str) -> tuple[int, ...]:
        """The layers that still have all that a removal of ``kind`` takes, in original indices.

        Args:
            kind: ``attention``, ``mlp``, or ``block`` for both.
        """
        gone = {layer for sublayer in KINDS[kind] for layer in self.edits.layers_of(sublayer)}
        return tuple(i for i in range(self.layers) if i not in gone)

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """The layers that still have attention, in original indices."""
        return self.layers_with(ATTENTION)

    @property
    def mlp_layers(self) -> tuple[int, ...]:
        """The layers that still have an MLP, in original indices."""
        return self.layers_with(MLP)

    @property
    def shape(self) -> str:
        return str(self.data["shape"])

    @property
    def roles(self) -> Data:
        roles: Data = self.data["roles"]
        return roles

    @property
    def norms(self) -> Data:
        norms: Data = self.data["norms"]
        return norms

    @property
    def block(self) -> Data:
        block: Data = self.data["block"]
        return block

    @property
    def scales_by_layer(self) -> bool:
        """Whether the factor on the logits is another one in every layer."""
        return self.data.get("scale_by_layer") is not None

    def logit_scale(self, layer: int) -> float:
        """The factor on the logits of one layer: ``scale``, or ``scale / (layer + 1)`` where the family says so."""
        return self.scale / (layer + 1) if self.scales_by_layer else self.scale

    def tensor(self, layer: int, name: str) -> str:
        """The full name of ``name`` in block ``layer``."""
        return f"{self.prefix}.{layer}.{name}"

    def attention(self, layer: int) -> AttentionWeights:
        """The attention weights of one layer; nothing is read before it is asked for.

        Raises:
            FamilyError: the layer does not exist or has lost its attention.
        """
        if layer not in self.attention_layers:
            raise FamilyError(
                "no-attention", f"layer {layer} has no attention: expected one of {list(self.attention_layers)}"
            )
        return AttentionWeights(self, layer)

    def removed_with(self, layer: int) -> tuple[str, ...]:
        """Prefixes of the tensors that go when this layer's attention goes."""
        return tuple(self.tensor(layer, module) + "." for module in self.block["attention"])

    def refusal(self) -> str | None:
        """Why this checkpoint must not be pruned, or ``None``."""
        classes, config = self.data["classes"], self.checkpoint.config
        given = config.get("architectures") or []
        if not isinstance(given, list):
            return f"config.json says architectures {given!r:.80}, which is no list of class names"
        written_for = [str(a) for a in given]
        # A pruned model names classes of ours, and whoever assumes a family vouches for its classes too.
        if written_for and not (self.edits or self.assumed) and not {*classes.values()} & {*written_for}:
            return f"config.json says architectures {written_for}, and only {classes['causal_lm']} can be pruned"
        lacking = missing(self)
        if lacking:
            return f"its files lack {lacking}, so that they can be scored and not pruned: fetch the whole model"
        return refusal(self.data, config)

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
        )


def detect_layout(checkpoint: TensorStore, assume: str | None = None) -> Layout:
    """Recognise the checkpoint's family and resolve its names and numbers.

    Args:
        checkpoint: what to recognise; only its config and the names and shapes of its tensors are looked at.
        assume: treat it as this family whatever its ``model_type`` says (the user vouches for it).

    Raises:
        FamilyError: an unknown family, a config that lacks a number or contradicts the weights, quantised weights, or
            no query and key weights where they should be.
        RecordError: a pruned checkpoint whose ``gatenorm`` entry is damaged or of another version.
    """
    config = checkpoint.config
    pruned = pruned_record(config)
    model_type = str(pruned.base_model_type if pruned else config.get("model_type"))
    if assume is not None and assume not in families():
        raise FamilyError(
            "family-unknown", "is not known", field="family", given=assume, hint=did_you_mean(assume, families())
        )
    if assume is None and model_type not in families():
        raise FamilyError("family-unknown", _unknown(checkpoint, model_type))
    _refuse_quantised(checkpoint)
    data = family(assume or model_type, config)
    number = _numbers(config, data)
    heads, width = number("heads"), number("width")
    if heads > width:
        raise FamilyError("config-wrong", f"config.json: {heads} query heads do not fit into a width of {width}")
    head_dim = number("head_dim", width // heads)
    scale = data["scale"]
    if isinstance(scale, list):
        base = head_dim if scale[0] == "head_dim" else positive(scale[0], value(config, data, scale[0]))
        scale = base ** scale[1]
    softcap = value(config, data, data["softcap"]) if data["softcap"] else None
    layout = Layout(
        checkpoint=checkpoint,
        model_type=assume or model_type,
        data=data,
        layers=pruned.layers if pruned else number("layers"),
        edits=pruned.edits if pruned else Edits(),
        pruned=pruned,
        width=width,
        heads=heads,
        kv_heads=number("kv_heads", heads),
        head_dim=head_dim,
        context=number("context", 0) or None,
        scale=float(scale),
        softcap=None if softcap is None else positive(data["softcap"], softcap),
        rotary=Rotary.of(config, data, head_dim) if data["rotary"] else None,
        prefix=_prefix(checkpoint, data),
        assumed=assume is not None and assume != model_type,
    )
    _check_shapes(layout)
    return layout


def pruned_record(config: Mapping[str, Any]) -> PrunedRecord | None:
    """What a pruned checkpoint says of itself; ``None`` for one that gatenorm has not written.

    Raises:
        RecordError: the entry is damaged, or of another version.
    """
    if not str(config.get("model_type", "")).startswith(PRUNED_PREFIX):
        return None
    return from_json(PrunedRecord, config.get("gatenorm"), "the gatenorm entry of config.json")


def _refuse_quantised(checkpoint: TensorStore) -> None:
    """Stored codes are not weights: a score taken from them would be a number about nothing."""
    given = checkpoint.config.get("quantization_config") or checkpoint.config.get("compression_config")
    if given:
        method = given.get("quant_method") if isinstance(given, Mapping) else None
        found = f"config.json has a quantization_config ({method or 'method not named'})"
    else:
        name = next((t.name for t in checkpoint.specs.values() if t.name.endswith(_QUANTISED)), None)
        if name is None:
            return
        found = f"there is a tensor {name}"
    raise FamilyError(
        "weights-quantised",
        f"the weights are quantised: {found}; the stored numbers are codes: score the original weights",
    )


class _Number(Protocol):
    def __call__(self, name: str, otherwise: int | None = None) -> int: ...


def _numbers(config: Mapping[str, Any], data: Data) -> _Number:
    def number(name: str, otherwise: int | None = None) -> int:
        keys = data["dimensions"].get(name, [])
        if isinstance(keys, int):
            return keys
        # What the file says under any of its names comes before what the family takes for granted.
        for key in sorted(keys, key=lambda key: config.get(key) is None):
            found = value(config, data, key)
            if type(found) is int and 0 < found <= LARGEST:
                return found
            if found is not None:
                raise FamilyError(
                    "config-wrong", f"config.json: {key} is {found!r:.40}, expected a positive whole number"
                )
        if otherwise is None:
            raise FamilyError(
                "config-incomplete", f"config.json has no {' or '.join(keys)}: it is needed to know the model's shape"
            )
        return otherwise

    return number


def _prefix(checkpoint: TensorStore, data: Data) -> str:
    """The block list's name in this checkpoint: a base model's files lack the causal LM's first component."""
    path = str(data["block"]["path"])
    short = path.split(".", 1)[1]
    for prefix in (path, short):
        if any(t.name.startswith(prefix + ".") for t in checkpoint.specs.values()):
            return prefix
    raise FamilyError(
        "tensor-missing",
        f"no tensor of {checkpoint.directory} is called {path}.* or {short}.*: expected the weights of "
        f"{data['classes']['causal_lm']}",
    )


def _unknown(checkpoint: TensorStore, model_type: str) -> str:
    llama = families()["llama"]
    like = [f"{llama['block']['path']}.0.{llama['roles'][role]}.weight" for role in "qkvo"]
    message = f"model_type {model_type!r:.80} is not known; {did_you_mean(model_type[:80], families())}"
    if all(name in checkpoint for name in like):
        message += (
            f". Its tensors are named like Llama's: if it computes like Llama, say so with {named('family')} llama"
        )
    return message


def _check_shapes(layout: Layout) -> None:
    """Refuse a config and weights that contradict each other before anything is computed from either."""
    if layout.heads % layout.kv_heads:
        raise FamilyError(
            "config-wrong", f"config.json: {layout.heads} query heads are no multiple of {layout.kv_heads} key heads"
        )
    # Counted in the weights before the config's number is believed: it sets the length of everything that follows.
    skip = len(layout.prefix) + 1
    indices = {
        t.name[skip:].split(".", 1)[0]
        for t in layout.checkpoint.specs.values()
        if t.name.startswith(layout.prefix + ".")
    }
    stored = sum(index.isascii() and index.isdigit() for index in indices)
    # Blocks that are gone altogether have left no tensor.
    stored += sum(str(layer) not in indices for layer in layout.edits.blocks)
    if stored != layout.layers:
        raise FamilyError(
            "layers-differ",
            f"config.json says {layout.layers} layers, but the weights hold {stored} ({layout.prefix}.*): "
            "is a shard missing, or the config another model's?",
        )
    for layer in layout.attention_layers:
        AttentionWeights(layout, layer).check()
