"""Checkpoints in formats that have names of their own, under those that their family has in transformers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gatenorm.checkpoint import Dialect, TensorStore
from gatenorm.errors import FamilyError, did_you_mean
from gatenorm.families.family import Data, families
from gatenorm.families.rotary import Rotary

# Of Llama 3's rule for stretching rotary waves, whose outcome a file may hold as a factor for every wave.
_LOW, _HIGH = 1.0, 4.0
_CLOSE = 1e-4


def translated(checkpoint: TensorStore) -> TensorStore:
    """The checkpoint under transformers' names of tensors and keys of a configuration; itself where it has these.

    Raises:
        FamilyError: a format with names of its own, and an architecture that no family claims there.
        CheckpointError: it is no language model.
    """
    if not checkpoint.dialect:
        return checkpoint
    known = architectures(checkpoint.dialect)
    architecture = str(checkpoint.config["model_type"])
    if architecture not in known:
        raise FamilyError(
            "family-unknown",
            f"{checkpoint.path} is of architecture {architecture:.80}, which is not known as {checkpoint.dialect}",
            expected=", ".join(known),
            hint=did_you_mean(architecture, known) or "take the checkpoint that it was made from",
        )
    data = families()[known[architecture]]
    rules = data[checkpoint.dialect]
    found = checkpoint.translated(
        Dialect(
            config=rules["config"],
            given={"model_type": data["model_type"], "architectures": [data["classes"]["causal_lm"]]},
            outer=rules["outer"],
            path=data["block"]["path"],
            block=rules["block"],
            interleaved=tuple(rules["interleaved"]),
            gain_offset=data["norms"]["gain_offset"],
        )
    )
    factors = rules["rope_factors"]
    return _with_llama_3(found, data, factors) if factors in found else found


def architectures(dialect: str) -> dict[str, str]:
    """What a format calls the architectures that are known, with their families."""
    known = {}
    for model_type, data in families().items():
        # A format that has text alone holds no larger model.
        claimed = None if "tower" in data else _claimed(data, dialect)
        # What a family inherits, the one that it is like has claimed.
        if claimed and claimed != _claimed(families().get(data.get("like", ""), {}), dialect):
            known[claimed] = model_type
    return dict(sorted(known.items()))


def _claimed(data: Data, dialect: str) -> str | None:
    rules = data.get(dialect)
    return str(rules["architecture"]) if isinstance(rules, Mapping) else None


def _with_llama_3(checkpoint: TensorStore, data: Data, name: str) -> TensorStore:
    """With factors for every rotary wave as the parameters that they come from, where they are Llama 3's."""
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
        config["rope_scaling"] = {"rope_type": "a factor for every wave"}
        return checkpoint
    config["rope_scaling"] = scaling
    return checkpoint.without(lambda tensor: tensor == name)
