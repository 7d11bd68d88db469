"""Recognising a checkpoint's family, and checking that its config and its weights agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from gatenorm.checkpoint import ModelConfig, TensorStore
from gatenorm.checkpoint.quantisation import methods, unreadable
from gatenorm.errors import FamilyError, first_line
from gatenorm.families.config_keys import structural_key
from gatenorm.families.differing import key_sources, layer_configs
from gatenorm.families.family import (
    check_added,
    config_wrong,
    counted_layers,
    families,
    family,
    near_names,
    of_package,
    positive,
    tower_config,
    value,
)
from gatenorm.families.latent import attention_weights
from gatenorm.families.layout import Heads, Layout
from gatenorm.families.per_layer import keep_entries
from gatenorm.families.rotary import Rotary
from gatenorm.families.schema import Family, Number
from gatenorm.families.translation import translated
from gatenorm.records import PRUNED_PREFIX, Edits, PrunedRecord, from_json

# No dimension of a model comes near; without a limit a config could ask for more memory than there is.
LARGEST = 2**31 - 1
# Types of transformers, and of people's own code, that mix tokens by a recurrence alone.
_WITHOUT_ATTENTION = (
    *("mamba", "mamba2", "falcon_mamba", "rwkv", "rwkv5", "rwkv6", "rwkv6qwen2", "rwkv7", "xlstm", "retnet", "hgrn2"),
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
    try:
        return _detected(translated(checkpoint), assume)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        added = of_package(assume or str(checkpoint.config.get("model_type")))
        if added is None:
            raise
        problem = f"{added} does not fit {checkpoint.directory} ({type(error).__name__}: {first_line(error)})"
        raise FamilyError("extension-wrong", problem, hint="compare it with a packaged family") from error


def _detected(checkpoint: TensorStore, assume: str | None) -> Layout:
    config: ModelConfig = checkpoint.config
    pruned = pruned_record(config)
    model_type = str(pruned.base_model_type if pruned else config.get("model_type"))
    name = model_type if assume is None else assume
    if name not in families():
        check_added(name)
        if assume is None:
            raise _unknown(model_type, config)
        raise FamilyError("family-unknown", "is not known", field="family", given=assume, hint=near_names(assume))
    _refuse_quantised(checkpoint)
    data = family(name, config)
    refuse_dropped(config, data, name)
    config = tower_config(data, config)
    number, sizes = partial(_number, config, data), data.dimensions
    heads, width = number(sizes.heads), number(sizes.width)
    if heads > width:
        raise FamilyError("config-wrong", f"config.json: {heads} query heads do not fit into a width of {width}")
    head_dim = number(sizes.head_dim, width // heads)
    softcap = value(config, data, data.softcap) if data.softcap else None
    layers, edits = (pruned.layers, pruned.edits) if pruned else (number(sizes.layers, _listed(config, data)), Edits())
    prefix = _prefix(checkpoint, data)
    # Blocks that are gone altogether have left no tensor.
    gone = edits.blocks if data.block.branch else edits.attention
    _check_count(checkpoint, prefix, layers, gone, number(sizes.unused_layers, 0))
    counted = counted_layers(data, layers, edits)
    kv_heads, value_dim = number(sizes.kv_heads, heads), number(sizes.value_dim, head_dim)
    usual = Heads(data, kv_heads, head_dim, value_dim)
    heads_of = dict(enumerate(_heads(config, data, layers)))
    rotary = _rotary(config, data, {layer: heads_of[layer].head_dim if heads_of else head_dim for layer in counted})
    main = next((one for one in rotary.values() if one is not None), None)
    layout = Layout(
        checkpoint=checkpoint,
        model_type=name,
        data=data,
        layers=layers,
        edits=edits,
        pruned=pruned,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=value_dim,
        latent_rank=number(sizes.latent_rank, 0),
        context=number(sizes.context, 0) or None,
        scale=_scale(config, data, head_dim) * (main.yarn_scale if main and data.yarn_scale else 1.0),
        softcap=None if softcap is None else positive(str(data.softcap), softcap),
        rotary=main,
        prefix=prefix,
        assumed=name != model_type,
        assumption=pruned.plan.model.assumption if pruned else "",
        stored={
            module: stored
            for module, stored in data.block.stored.items()
            if any(f".{stored}." in name for name in checkpoint.specs)
        },
        other_mixers=_other_mixers(config, data, counted),
        other_rotary={layer: one for layer, one in rotary.items() if one != main},
        other_heads={layer: one for layer, one in heads_of.items() if one != usual},
        key_sources=key_sources(config, data, layers),
    )
    _check_shapes(layout)
    return layout


def pruned_record(config: ModelConfig) -> PrunedRecord | None:
    """What a pruned checkpoint says of itself; ``None`` for one that gatenorm has not written.

    Raises:
        RecordError: the entry is damaged, or of another version.
    """
    if not str(config.get("model_type", "")).startswith(PRUNED_PREFIX):
        return None
    return from_json(PrunedRecord, config.get("gatenorm"), "the gatenorm entry of config.json").checked()


def _refuse_quantised(checkpoint: TensorStore) -> None:
    """Stored codes are not weights: a score taken from them would be a number about nothing."""
    why = unreadable(checkpoint.config, checkpoint.stored)
    if why is not None:
        raise FamilyError(
            "weights-quantised",
            f"the weights are quantised in a way that cannot be read: {why}",
            field="model",
            expected=f"none, or one of {', '.join(methods())}",
            hint="score the unquantised model that it was made from, prune that, and quantise the result",
        )


def refuse_dropped(config: ModelConfig, data: Family, model_type: str) -> None:
    """Raise FamilyError for a key by which code of others leaves out parts that a stock ``model_type`` would run."""
    found = structural_key(config, data, model_type)
    if found is not None:
        raise FamilyError(
            "structure-foreign",
            f"config.json sets {found[0]!s:.60} to {found[1]!r:.60}, which only code of its own follows",
            field="model",
            hint="take the unpruned model",
        )


def _number(config: ModelConfig, data: Family, keys: Number, otherwise: int | None = None) -> int:
    if isinstance(keys, int):
        return keys
    # What the file says under any of its names comes before what the family takes for granted.
    for key in sorted(keys, key=lambda key: isinstance(key, str) and config.get(key) is None):
        found = _whole(config, data, key)
        if found is not None:
            return found
    if otherwise is None:
        names = " or ".join(map(str, keys))
        problem = f"config.json has no {names}, which is needed to know the model's shape"
        raise FamilyError("config-incomplete", problem)
    return otherwise


def _whole(config: ModelConfig, data: Family, key: str | tuple[str, ...]) -> int | None:
    if isinstance(key, tuple):
        parts = [_whole(config, data, one) for one in key]
        return None if None in parts else sum(filter(None, parts))
    found = value(config, data, key)
    if found is None or (type(found) is int and 0 < found <= LARGEST):
        return found
    raise config_wrong(key, found, "a positive whole number")


def _heads(config: ModelConfig, data: Family, layers: int) -> Iterator[Heads]:
    """The heads of each layer, where they differ."""
    for own in layer_configs(config, data, layers):
        changed = family(data.model_type, own)
        number, sizes = partial(_number, own, changed), changed.dimensions
        size = number(sizes.head_dim)
        yield Heads(changed, number(sizes.kv_heads, number(sizes.heads)), size, number(sizes.value_dim, size))


def _scale(config: ModelConfig, data: Family, head_dim: int) -> float:
    if isinstance(data.scale, float):
        return data.scale
    sizes = {**config, "head_dim": head_dim}
    return float(math.prod(positive(key, value(sizes, data, key)) ** power for key, power in data.scale))


def _rotary(config: ModelConfig, data: Family, sizes: Mapping[int, int]) -> dict[int, Rotary | None]:
    """How the heads of each layer turn; ``sizes`` are theirs, in the layers to which lists by layer apply."""
    layers = len(sizes)
    listed: Sequence[Any] = [None] * layers
    if data.rotary and data.rotary.by_kind:
        listed = keep_entries(config, data, layers, range(layers))[data.rotary.kinds]
    kinds = [None if kind is None else str(kind) for kind in listed]
    known = {pair: Rotary.of(config, data, *pair) for pair in {*zip(sizes.values(), kinds, strict=True)}}
    return {layer: known[size, kind] for (layer, size), kind in zip(sizes.items(), kinds, strict=True)}


def _listed(config: ModelConfig, data: Family) -> int | None:
    """How many layers the list of mixers has, for configs that say so in no other way."""
    lists = (config.get(rule.key, config.get(rule.letters)) for rule in data.per_layer if data.mixers)
    return next((len(given) for given in lists if isinstance(given, (list, str))), None)


def _other_mixers(config: ModelConfig, data: Family, layers: Sequence[int]) -> tuple[int, ...]:
    """Those of ``layers``, to which lists by layer in the config apply, that have no softmax attention.

    Raises:
        FamilyError: none has.
    """
    rule = data.mixers
    if rule is None:
        return ()
    listed = keep_entries(config, data, len(layers), range(len(layers))).get(rule.kinds)
    if listed is None:
        raise FamilyError("config-incomplete", f"config.json has no {rule.kinds}, which says where the attention is")
    others = tuple(layer for layer, kind in zip(layers, listed, strict=True) if kind not in rule.attention)
    if len(others) == len(layers):
        raise FamilyError("no-attention", "no layer has softmax attention: there is nothing to score or to remove")
    return others


def _prefix(checkpoint: TensorStore, data: Family) -> str:
    """The block list's name in this checkpoint: a base model's files lack the causal LM's first component."""
    path = data.block.path
    short = path.split(".", 1)[1]
    base = data.tower.path if data.tower else path.split(".", 1)[0]
    others = [other + path.removeprefix(base) for other in data.block.base]
    for prefix in (path, short, *others, *data.block.paths):
        if any(name.startswith(prefix + ".") for name in checkpoint.specs):
            return prefix
    raise FamilyError(
        "tensor-missing",
        f"no tensor of {checkpoint.directory} is called {path}.* or {short}.*",
        expected=f"the weights of {data.classes.causal_lm}",
    )


def _unknown(model_type: str, config: ModelConfig) -> FamilyError:
    if model_type in _WITHOUT_ATTENTION:
        problem = f"a {model_type} model has no softmax attention: there is nothing to score or to remove"
        return FamilyError("no-attention", problem, field="model")
    # No name that is spelled alike: gpt_oss is no gpt_neo, another architecture is another one whatever it is called.
    hint = f"{len(families())} families are known: docs/families.md lists them"
    tower = config.get("text_config")
    inner = tower.get("model_type") if isinstance(tower, Mapping) else None
    if isinstance(inner, str) and inner in families():
        hint = f"its language model is {inner}, which is known: save that alone, without what reads images or sound"
    return FamilyError("family-unknown", f"model_type {model_type!r:.80} is not known", hint=hint)


def named_like(checkpoint: TensorStore, model_type: str) -> bool:
    """Whether the tensors of the first block's attention have the names that a family gives them."""
    data = families()[model_type]
    return all(f"{data.block.path}.0.{module}.weight" in checkpoint for module in data.roles.modules.values())


def _check_shapes(layout: Layout) -> None:
    """Refuse a config and weights that contradict each other before anything is computed from either."""
    if layout.heads % layout.kv_heads:
        raise FamilyError(
            "config-wrong",
            f"config.json: {layout.heads} query heads are no multiple of {layout.kv_heads} key heads",
        )
    for layer in layout.attention_layers:
        attention_weights(layout, layer).check()


def _check_count(checkpoint: TensorStore, prefix: str, layers: int, gone: Sequence[int], unused: int) -> None:
    """Compare the number of layers with the weights before it is believed: it sets the length of what follows."""
    skip = len(prefix) + 1
    indices = {name[skip:].split(".", 1)[0] for name in checkpoint.specs if name.startswith(prefix + ".")}
    stored = sum(index.isascii() and index.isdigit() for index in indices)
    stored += sum(str(layer) not in indices for layer in gone)
    if stored not in (layers, layers + unused):
        raise FamilyError(
            "layers-differ",
            f"config.json says {layers} layers, but the weights hold {stored} ({prefix}.*)",
            hint="is a shard missing, or the config another model's?",
        )
