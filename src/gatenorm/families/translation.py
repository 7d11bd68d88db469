"""Checkpoints in formats that have names of their own, under those that their family has in transformers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gatenorm.checkpoint import Dialect, ModelConfig, TensorStore
from gatenorm.errors import FamilyError, did_you_mean
from gatenorm.families.family import families, mlp_modules
from gatenorm.families.rotary import Rotary
from gatenorm.families.schema import Family
from gatenorm.records import PRUNED_PREFIX, REMOVE, PrunedRecord, from_json

# Of Llama 3's rule for stretching rotary waves, whose outcome a file may hold as a factor for every wave.
_LOW, _HIGH = 1.0, 4.0
_CLOSE = 1e-4
_MOST_LAYERS = 1 << 12


def translated(checkpoint: TensorStore) -> TensorStore:
    """The checkpoint under transformers' names of tensors and keys of a configuration; itself where it has these.

    Raises:
        FamilyError: a format with names of its own, and an architecture that no family claims there.
        CheckpointError: it is no language model.
    """
    if not checkpoint.dialect:
        return checkpoint
    config, pruned = checkpoint.config, None
    if "gatenorm" in config:
        pruned = from_json(PrunedRecord, config["gatenorm"], f"the record of {checkpoint.path}")
    known, architecture = architectures(checkpoint.dialect, pruned=pruned is not None), str(config["model_type"])
    model_type = pruned.base_model_type if pruned else known.get(architecture, "")
    if architecture not in known or model_type not in families():
        problem = f"{checkpoint.path} is of architecture {architecture:.80}, which is not known as {checkpoint.dialect}"
        hint = did_you_mean(architecture, known) or "take the checkpoint that it was made from"
        raise FamilyError("family-unknown", problem, expected=", ".join(known), hint=hint)
    # Whatever family was pruned, the file has the names of the one as which it is written.
    data, names = families()[model_type], families()[known[architecture]].dialects[checkpoint.dialect]
    assert names is not None  # or its architecture were not known
    found = checkpoint.translated(
        Dialect(
            names=names,
            given=_given(data, config, pruned),
            path=data.block.path,
            layers=None if pruned is None else _written(pruned),
            gain_offset=data.norms.gain_offset,
        )
    )
    if names.rope_factors in found:
        found.config["rope_scaling"] = _scaling(found, data, names.rope_factors)
    return found if pruned is None else found.without(_is_stand_in(data, pruned))


def architectures(dialect: str, *, pruned: bool = False) -> dict[str, str]:
    """What a format calls the architectures that are known, or those as which it holds pruned models, with families."""
    known = {}
    for model_type, data in families().items():
        # A format that has text alone holds no larger model.
        claimed = None if data.tower else _claimed(data, dialect, pruned)
        # What a family inherits, the one that it is like has claimed.
        if claimed and claimed != _claimed(families().get(data.like), dialect, pruned):
            known[claimed] = model_type
    return dict(sorted(known.items()))


def _claimed(data: Family | None, dialect: str, pruned: bool) -> str | None:
    names = data.dialects.get(dialect) if data else None
    return None if names is None else names.pruned if pruned else names.architecture


def _given(data: Family, config: ModelConfig, pruned: PrunedRecord | None) -> dict[str, Any]:
    causal_lm = data.classes.causal_lm
    if pruned is None:
        return {"model_type": data.model_type, "architectures": [causal_lm]}
    replaced = next((edit for edit in pruned.edits if edit.operation != REMOVE), None)
    if replaced is not None:
        problem = f"the file has {replaced.operation} in place of the {replaced.sublayer} of layer {replaced.layer}"
        raise FamilyError("weights-replaced", problem, hint="take the directory that it was exported from")
    model_type = PRUNED_PREFIX + data.model_type
    return {"model_type": model_type, "architectures": [f"Gatenorm{causal_lm}"], "gatenorm": config["gatenorm"]}


def _written(pruned: PrunedRecord) -> tuple[int, ...]:
    """The original numbers of the blocks that a file has: those that are gone altogether are not written."""
    if pruned.layers > _MOST_LAYERS:  # before so many numbers are made
        raise FamilyError("layers-differ", f"the record of a pruned file speaks of {pruned.layers} layers")
    gone = {*pruned.edits.attention} & {*pruned.edits.mlp}
    return tuple(layer for layer in range(pruned.layers) if layer not in gone)


def _is_stand_in(data: Family, pruned: PrunedRecord) -> Callable[[str], bool]:
    """Whether a tensor only makes an engine load the file: it lies where a sublayer is gone, and computes zero."""
    edits, path = pruned.edits, data.block.path
    gone = [(layer, module) for layer in edits.attention for module in data.block.attention]
    gone += [(layer, module) for layer in edits.mlp for module in mlp_modules(data)]
    names = tuple(f"{path}.{layer}.{module}." for layer, module in gone)
    return lambda name: name.startswith(names)


def _scaling(checkpoint: TensorStore, data: Family, name: str) -> dict[str, Any]:
    """Factors for every rotary wave as the parameters that they come from, where they are Llama 3's."""
    config, factors = checkpoint.config, checkpoint.float32(name).astype(np.float64)
    plain = Rotary.of({**config, "rope_scaling": None}, data, 2 * len(factors))
    assert plain is not None
    waves, most = plain.frequencies(), round(float(factors.max()), 4)
    # Those in between are blended, by how often they turn within the context of the first training.
    blend = (most / factors - 1) / max(most - 1, _CLOSE)
    between = np.flatnonzero((blend > _CLOSE) & (blend < 1 - _CLOSE))
    turns = _LOW + blend[between[:1]] * (_HIGH - _LOW)
    original = [round(context) for context in turns * 2 * np.pi / waves[between[:1]]] or [
        config["max_position_embeddings"]
    ]
    scaling = {
        "rope_type": "llama3",
        "factor": most,
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": original[0],
    }
    stretched = Rotary.of({**config, "rope_scaling": scaling}, data, 2 * len(factors))
    if stretched is None or not np.allclose(waves / stretched.frequencies(), factors, rtol=_CLOSE):
        return {"rope_type": "a factor for every wave"}
    return scaling
