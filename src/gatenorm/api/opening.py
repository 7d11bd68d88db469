"""Models by name: a directory, a model id of the hub, the built-in model; as a layout, loaded, or in a session."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.checkpoint import TensorStore, locate, open_store
from gatenorm.criteria.session import ScoringSession
from gatenorm.errors import CheckpointError, FamilyError, OutputError, named
from gatenorm.families import Layout, detect_layout, named_like
from gatenorm.models import loading
from gatenorm.models.model import Model
from gatenorm.models.named import named_model, named_models
from gatenorm.surgery.operation import check_described
from gatenorm.surgery.proof import assumption, foreign_keys, is_proved

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The family that types of one's own are copies of, as a rule: the one that is tried, and suggested where it fits.
_COPIED = "llama"
# What names a model: a path, a model id of the hub, a name such as ``demo``; or one that is open already.
ModelLike = str | os.PathLike[str] | Layout | ScoringSession


def open_model(model: ModelLike, family: str | None = None, *, fetch: bool = True) -> Layout:
    """The layout of a checkpoint: its family, its shape, where its attention weights lie.

    Args:
        model: a directory, a model id of the hub, or the name of an installed model: ``demo`` is built in.
        family: treat it as this family although its ``model_type`` says something else.
        fetch: download a model id whose weights are not in the hub's cache; otherwise they stay on the hub, and only
            the ranges that are read are fetched.

    Raises:
        CheckpointError: it cannot be read.
        FamilyError: its architecture is not known.
        RecordError: a pruned one contradicts itself.
    """
    if isinstance(model, ScoringSession):
        return model.layout
    if isinstance(model, Layout):
        return model
    name = os.fspath(model)
    known = named_model(name)
    if known is None:
        _check_typo(name)
    checkpoint = open_store(known.checked_directory() if known else name, fetch=fetch)
    try:
        layout = detect_layout(checkpoint, family)
    except FamilyError as error:
        if error.code == "family-unknown" and family is None and _computes_like(_COPIED, checkpoint):
            error.hint += (
                f". It computes like {_COPIED}, as a tiny random model shows: set {named('family')} to {_COPIED}"
            )
        raise
    if layout.pruned:
        check_described(layout)
        return layout
    config = layout.checkpoint.config
    said = [foreign_keys(config, layout.data, layout.model_type)]
    if layout.assumed:
        said.insert(0, assumption(config, layout.layers, layout.model_type))
    return replace(layout, assumption="; ".join(filter(None, said)))


def _computes_like(family: str, checkpoint: TensorStore) -> bool:
    """Whether assuming that family would do, proved: names of tensors alone say nothing."""
    if not named_like(checkpoint, family):
        return False
    try:
        layout = detect_layout(checkpoint, family)
    except FamilyError:
        return False
    return is_proved(checkpoint.config, layout.layers, family)


def _check_typo(name: str) -> None:
    """Refuse what is no directory and nearly the name of an installed model, before the hub is asked for it."""
    names = [known.name for known in named_models()]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    if near and not Path(name).exists():
        raise CheckpointError("model-missing", f"{name} does not exist", hint=f"did you mean {near[0]!r}?")


def load(model: str | os.PathLike[str], **arguments: Any) -> PreTrainedModel:
    """The causal language model ``model``, dense or pruned, as a transformers model in evaluation mode.

    Args:
        model: a directory, a model id of the hub, or the name of an installed model: ``demo`` is built in.
        arguments: for ``from_pretrained``: ``dtype``, ``device_map``, ``attn_implementation``, ...

    Raises:
        CheckpointError: it cannot be read, or holds other tensors than the model needs.
        MissingExtraError: torch or transformers is not installed.
    """
    name = os.fspath(model)
    known = named_model(name)
    return loading.load(known.checked_directory() if known else locate(name), **arguments)


def session(
    model: ModelLike,
    *,
    family: str | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    layer_by_layer: bool = False,
    activations: str | os.PathLike[str] | None = None,
) -> ScoringSession:
    """A model that is loaded when it is first run and then kept, to score by several criteria or to compare them.

    Args:
        layer_by_layer: hold one block's weights at a time, for models larger than memory.
        activations: a folder that then keeps the samples' activations, which otherwise stay in memory.

    Raises:
        CheckpointError, FamilyError: as :func:`open_model`.
        OutputError: ``activations`` is no folder, or not used.
    """
    if isinstance(model, ScoringSession):
        return model
    spool = None if activations is None else Path(activations)
    if spool is not None and not layer_by_layer:
        raise OutputError("activations-unused", f"is used only with {named('layer_by_layer')}", field="activations")
    if spool is not None and not spool.is_dir():
        raise OutputError("folder-missing", "is no existing folder", field="activations", given=spool)
    return ScoringSession(Model.of_layout(open_model(model, family), device=device, dtype=dtype), layer_by_layer, spool)
