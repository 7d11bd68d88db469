"""Surgery on a model in memory: the same blocks, classes and configuration that loading a pruned directory gives."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from gatenorm.errors import PlanError
from gatenorm.surgery import modeling_gatenorm as modeling
from gatenorm.surgery.registration import register_classes

# How attentions call their own number, by which they find their cache layer.
_LAYER_NUMBERS = ("layer_idx", "layer_id")


def remove_attention(
    model: Any, drop: Sequence[int], block: Mapping[str, Any], plan: Mapping[str, Any] | None = None
) -> Any:
    """Remove whole attention sublayers from a live causal language model; returns the same object, changed in place.

    Afterwards the model is what `from_pretrained` on the pruned directory gives: a block in `drop` holds its MLP branch
    only, the others are numbered densely (so the cache has one layer per kept attention), class and configuration are
    those of `modeling_gatenorm`, and `save_pretrained` writes a complete pruned directory. No tensor is copied. The
    configuration object that the model had stays as it was: others may share it.

    :param model: a stock ``PreTrainedModel`` with a language modelling head, or one pruned before.
    :param drop: layer numbers of the original model, 0-based, in any order. On a model pruned before they add to what
        is gone already.
    :param block: where the blocks are and what is left of one without attention, as in the key ``gatenorm.block`` of a
        pruned configuration.
    :param plan: kept in the configuration and written to ``gatenorm.json``; without one, a plan that only says `drop`.
    :raises PlanError: where the layers, the block shape or the architecture do not allow it; the model is untouched.
    """
    earlier = getattr(model.config, "gatenorm", None)
    layers = earlier["layers"] if earlier else model.config.num_hidden_layers
    gone = sorted(set(drop) | set(earlier["drop"] if earlier else ()))
    base_model_type = earlier["base_model_type"] if earlier else model.config.model_type
    config_class, model_class = _classes(model, base_model_type)

    # Not the constructor: it would drop what is set on this very object, the attention implementation for one.
    old_config, config = model.config, copy.deepcopy(model.config)
    config.__class__ = config_class
    config.gatenorm = {
        "schema": modeling.SCHEMA,
        "base_model_type": base_model_type,
        "layers": layers,
        "drop": gone,
        "block": {key: list(value) if isinstance(value, tuple) else value for key, value in block.items()},
        "plan": dict(plan) if plan is not None else {"schema": "gatenorm/plan/1", "drop": gone},
    }
    config.architectures = [model_class.__name__]
    config.auto_map = modeling.auto_map(base_model_type)
    numbers = [index for index in range(layers) if index not in (earlier["drop"] if earlier else ())]
    _keep_layers(config, [numbers.index(index) for index in numbers if index not in gone])
    try:
        record = modeling.read_record(config)
        blocks = _blocks(model, record)
    except (ValueError, AttributeError) as error:
        raise PlanError(str(error)) from error

    kept = 0
    for index, layer in enumerate(blocks):
        if index not in gone:
            _renumber(layer, kept)
            kept += 1
        elif not isinstance(layer, modeling.AttentionFree):
            modeling.remove_attention(layer, record["block"], config)
    modeling.install(model, blocks, record)
    _replace_config(model, old_config, config)
    model.__class__ = model_class
    register_classes(config_class)
    return model


def _classes(model: Any, base_model_type: str) -> tuple[type, type]:
    """The configuration class and the model class that the pruned model will have."""
    stock_name = type(model).__name__.removeprefix(modeling.PREFIX)
    try:
        names = modeling.class_names(base_model_type)
        expected = names["AutoModelForCausalLM"]
        if modeling.PREFIX + stock_name != expected:
            expected = expected.removeprefix(modeling.PREFIX)
            raise PlanError(f"{stock_name} cannot be pruned as it is: expected the causal language model {expected}")
        return getattr(modeling, names["AutoConfig"]), getattr(modeling, expected)
    except ValueError as error:
        raise PlanError(str(error)) from error


def _blocks(model: Any, record: Mapping[str, Any]) -> list[Any]:
    """All blocks of the model in their physical order, after a check that each holds what is about to be taken."""
    owner, name = modeling.locate_blocks(model, record["block"]["path"])
    blocks = list(getattr(owner, name))
    if len(blocks) != record["layers"]:
        raise ValueError(f"{record['block']['path']} holds {len(blocks)} blocks: expected {record['layers']}")
    for index in record["drop"]:
        if not isinstance(blocks[index], modeling.AttentionFree):
            modeling.check_shape(blocks[index], record["block"])
    return blocks


def _keep_layers(config: Any, kept: Sequence[int]) -> None:
    """Reduce the configuration to the layers `kept` (numbers within it): their count, and what it lists per layer."""
    config.num_hidden_layers = len(kept)
    for key in ("layer_types", "attention_layers"):
        if getattr(config, key, None) is not None:
            setattr(config, key, [getattr(config, key)[index] for index in kept])
    if getattr(config, "attention_types", None) is not None:
        # GPT-Neo writes its layers in a run-length form, and reads `attention_layers` off it again.
        config.attention_types = [[[kind], 1] for kind in config.attention_layers]


def _renumber(layer: Any, number: int) -> None:
    for module in layer.modules():
        for key in _LAYER_NUMBERS:
            if hasattr(module, key):
                setattr(module, key, number)


def _replace_config(model: Any, old: Any, new: Any) -> None:
    """Give every module that holds the old configuration object the new one, under whatever name it holds it."""
    for module in model.modules():
        for key, value in list(vars(module).items()):
            if value is old:
                setattr(module, key, new)
