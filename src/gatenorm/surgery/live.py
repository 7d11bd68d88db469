"""Surgery on a model in memory: the same blocks, classes and configuration that loading a pruned directory gives."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from gatenorm.errors import PlanError
from gatenorm.families import keep_entries, refusal
from gatenorm.records import ATTENTION, Edits, ModelIdentity, Plan, PrunedRecord, from_json, to_json
from gatenorm.surgery import modeling_gatenorm as modeling
from gatenorm.surgery.config import block_description
from gatenorm.surgery.planning import check_drop
from gatenorm.surgery.registration import register_classes

# How attentions call their own number, by which they find their cache layer.
_LAYER_NUMBERS = ("layer_idx", "layer_id")


def remove_attention(model: Any, drop: Sequence[int], family: Mapping[str, Any], plan: Plan | None = None) -> Any:
    """:func:`remove_sublayers`, of the attention of layers ``drop``."""
    return remove_sublayers(model, ATTENTION, drop, family, plan)


def remove_sublayers(
    model: Any, kind: str, drop: Sequence[int], family: Mapping[str, Any], plan: Plan | None = None
) -> Any:
    """Remove whole sublayers from a live causal language model; returns the same object, changed in place.

    Afterwards the model is what `from_pretrained` on the pruned directory gives: a block without attention holds its
    MLP branch at most, the others are numbered densely (so the cache has one layer per kept attention), class and
    configuration are those of `modeling_gatenorm`, and `save_pretrained` writes a complete pruned directory. No tensor
    is copied. The configuration object that the model had stays as it was: others may share it.

    Args:
        model: a stock ``PreTrainedModel`` with a language modelling head, or one pruned before.
        kind: what goes of each layer: ``attention``, ``mlp``, or ``block`` for both.
        drop: layer numbers of the original model, 0-based, in any order. On a model pruned before they add to what is
            gone already.
        family: the family's data: its ``block`` (where the blocks are, what is left of one without attention), its
            ``norms``, its ``per_layer`` rules and what it refuses.
        plan: kept in the configuration and written to ``gatenorm.json``; without one, a plan made by hand.

    Raises:
        PlanError: the layers, the block shape or the architecture do not allow it; the model is untouched.
    """
    earlier = getattr(model.config, "gatenorm", None)
    layers = earlier["layers"] if earlier else model.config.num_hidden_layers
    before = Edits.from_json(earlier["edits"]) if earlier else Edits()
    check_drop(kind, layers, before, drop)
    why = refusal(family, model.config.to_dict())
    if why:
        raise PlanError(f"this model cannot be pruned: {why}")
    gone = before | Edits.of(kind, drop)
    base_model_type = earlier["base_model_type"] if earlier else model.config.model_type
    config_class, model_class = _classes(model, base_model_type)

    # Not the constructor: it would drop what is set on this very object, the attention implementation for one.
    old_config, config = model.config, copy.deepcopy(model.config)
    config.__class__ = config_class
    carried_out = plan or _plan_by_hand(model, base_model_type, layers, gone, kind)
    config.gatenorm = to_json(PrunedRecord(base_model_type, layers, gone, block_description(family), carried_out))
    config.architectures = [model_class.__name__]
    config.auto_map = modeling.auto_map(base_model_type)
    attending = [index for index in range(layers) if index not in before.attention]
    keep = [attending.index(index) for index in attending if index not in gone.attention]
    for key, value in keep_entries(old_config.to_dict(), family, len(attending), keep).items():
        setattr(config, key, value)
    config.num_hidden_layers = len(keep)
    try:
        record = modeling.read_record(config)
        blocks = _blocks(model, record)
    except (ValueError, AttributeError) as error:
        raise PlanError(str(error)) from error

    kept = 0
    for index, layer in enumerate(blocks):
        if index not in gone.attention:
            _renumber(layer, kept)
            kept += 1
        modeling.remove_sublayers(layer, record["block"], config, {edit.sublayer for edit in gone.at(index)})
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
    for index, block in enumerate(blocks):
        if modeling.edited(record, index) and not isinstance(block, modeling.AttentionFree):
            modeling.check_shape(block, record["block"])
    return blocks


def _plan_by_hand(model: Any, base_model_type: str, layers: int, gone: Edits, kind: str) -> Plan:
    """A plan for a model that lies in no directory: its configuration stands for its identity."""
    config = model.config.to_dict()
    earlier = config.get("gatenorm")
    text = json.dumps(config, sort_keys=True, default=str)
    name = config.get("_name_or_path") or type(model).__name__
    identity = ModelIdentity(name, base_model_type, layers, hashlib.sha256(text.encode()).hexdigest(), {})
    previous = from_json(Plan, earlier["plan"], "a plan") if earlier else None
    plan = Plan(identity, gone, previous=previous, version=version("gatenorm"), kind=kind)
    return plan


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
