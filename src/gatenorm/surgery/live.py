"""Surgery on a model in memory: the same blocks, classes and configuration that loading a pruned directory gives."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from gatenorm.errors import PlanError
from gatenorm.families import counted_layers, keep_entries
from gatenorm.families.differing import key_sources
from gatenorm.families.family import refusal
from gatenorm.families.schema import Family
from gatenorm.records import Edit, Edits, ModelIdentity, Plan, PrunedRecord, from_json, to_json
from gatenorm.surgery import modeling_gatenorm as modeling
from gatenorm.surgery.config import block_record, check_prunable, original_keys, own_classes
from gatenorm.surgery.folding import carrier, check_folds, folded_parameters, folds, projection
from gatenorm.surgery.operation import Weights, check_weights, operation_records, place
from gatenorm.surgery.planning import check_edits, check_key_sources
from gatenorm.surgery.registration import register_classes


def edit_model(model: Any, edits: Edits, family: Family, weights: Mapping[Edit, Weights] | None = None) -> Any:
    """Edit whole sublayers of a live causal language model; returns the same object, changed in place.

    Afterwards the model is what `from_pretrained` on the pruned directory gives: blocks without attention hold their
    MLP branch at most, the others are numbered densely (so the cache has one layer per kept attention), class and
    configuration are those of `modeling_gatenorm`, and `save_pretrained` writes a complete pruned directory. No tensor
    is copied, but those that something is folded into are new ones. The configuration object that the model had stays
    as it was: others may share it.

    Args:
        model: a stock ``PreTrainedModel`` with a language modelling head, or one pruned before.
        edits: in original layers; on a model pruned before they add to its own.
        family: the family's data.
        weights: the tensors of edits whose operation stores some.

    Raises:
        PlanError: the edits, the block shape or the architecture do not allow it; the model is untouched.
    """
    weights = weights or {}
    earlier = getattr(model.config, "gatenorm", None)
    text = model.config.get_text_config()
    layers = earlier["layers"] if earlier else text.num_hidden_layers
    width = text.hidden_size
    before = Edits.from_json(earlier["edits"]) if earlier else Edits()
    check_edits(layers, before, edits)
    check_folds(family, before, edits)
    check_key_sources(key_sources(text.to_dict(), family, layers), before | edits)
    check_weights(width, edits, weights)
    check_prunable(refusal(family, text.to_dict()))
    after = before | edits
    base_model_type = earlier["base_model_type"] if earlier else model.config.model_type
    config_class, model_class = _classes(model, family)

    counted, staying = (counted_layers(family, layers, edits) for edits in (before, after))
    keep = [position for position, index in enumerate(counted) if index in staying]
    # Not the constructor: it would drop what is set on this very object, the attention implementation for one.
    config = copy.deepcopy(model.config)
    config.__class__ = config_class
    config.gatenorm = to_json(
        PrunedRecord(
            base_model_type=base_model_type,
            layers=layers,
            edits=after,
            block=block_record(family),
            plan=_plan_by_hand(model, base_model_type, layers, after),
            operations=operation_records(after, width),
            original=earlier.get("original", {}) if earlier else original_keys(family, text.to_dict(), layers),
        )
    )
    config.architectures = [model_class.__name__]
    config.auto_map = own_classes(family)
    new_text = config.get_text_config()
    entries = keep_entries(text.to_dict(), family, len(counted), keep) if len(keep) < len(counted) else {}
    for key, value in entries.items():
        setattr(new_text, key, value)
    new_text.num_hidden_layers = len(keep)
    try:
        record = modeling.read_record(config)
        blocks = _blocks(model, record)
        projections = {e: blocks[carrier(family, e.layer)].get_submodule(projection(family)) for e in folds(edits)}
    except (ValueError, AttributeError) as error:
        raise PlanError("block-shape-wrong", str(error)) from error

    for edit, module in projections.items():
        for name, parameter in folded_parameters(module, family, weights[edit]).items():
            setattr(module, name, parameter)
    for index, block in enumerate(blocks):
        if index in staying:
            modeling.renumber(block, staying.index(index))
        like = next(block.parameters(), None)
        operations = modeling.edits_of(record, index)
        modeling.edit_block(block, record["block"], new_text, operations, record.get("operations", {}))
        for edit in edits.at(index):
            if weights.get(edit) and edit not in projections:
                set_weights(block.get_submodule(place(family, edit.sublayer)), weights[edit], like)
    modeling.install(model, blocks, record)
    for old, new in ((model.config, config), (text, new_text)):
        modeling.replace_config(model, old, new)
    model.__class__ = model_class
    register_classes(config_class)
    return model


def set_weights(replacement: Any, weights: Weights, like: Any) -> None:
    """Give an operation its tensors, of the type and on the device of the block's own."""
    for name, values in weights.items():
        parameter = getattr(replacement, name)
        parameter.data = torch.from_numpy(np.array(values, np.float32)).to(like)


def _classes(model: Any, family: Family) -> tuple[type, type]:
    """The configuration class and the model class that the pruned model will have."""
    stock_name, expected = type(model).__name__.removeprefix(modeling.PREFIX), family.classes.causal_lm
    if stock_name != expected:
        raise PlanError(
            "model-class-wrong", f"{stock_name} cannot be pruned", expected=f"the causal language model {expected}"
        )
    config_class: type = getattr(modeling, modeling.PREFIX + family.classes.config)
    return config_class, getattr(modeling, modeling.PREFIX + expected)


def _blocks(model: Any, record: Mapping[str, Any]) -> list[Any]:
    """All blocks of the model in their physical order, after a check that each holds what is about to be taken."""
    owner, name = modeling.locate_blocks(model, record["block"]["path"])
    blocks = list(getattr(owner, name))
    if len(blocks) != record["layers"]:
        raise ValueError(f"{record['block']['path']} holds {len(blocks)} blocks: expected {record['layers']}")
    for index, block in enumerate(blocks):
        named = modeling.edits_of(record, index)
        if named and not modeling.lacks_attention(block, record["block"]):
            modeling.check_shape(block, record["block"], named)
    return blocks


def _plan_by_hand(model: Any, base_model_type: str, layers: int, edits: Edits) -> Plan:
    """A plan for a model that lies in no directory: its configuration stands for its identity."""
    config = model.config.to_dict()
    earlier = config.get("gatenorm")
    text = json.dumps(config, sort_keys=True, default=str)
    name = config.get("_name_or_path") or type(model).__name__
    identity = ModelIdentity(name, base_model_type, layers, hashlib.sha256(text.encode()).hexdigest(), {})
    previous = from_json(Plan, earlier["plan"], "a plan").alone if earlier else None
    return Plan(identity, edits, previous=previous, version=version("gatenorm"))
