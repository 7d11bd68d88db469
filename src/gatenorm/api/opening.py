"""Models by name: a directory, a model id of the hub, the built-in model; understood, loaded, or kept for questions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from gatenorm.checkpoint import locate, open_store
from gatenorm.families import Layout, detect_layout
from gatenorm.models import loading as transformers_runtime
from gatenorm.models.named import named_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from gatenorm.criteria.laboratory import Laboratory

ModelLike = str | os.PathLike[str] | Layout


def open_model(model: ModelLike, family: str | None = None, *, fetch: bool = True) -> Layout:
    """What gatenorm understands of a checkpoint: its family, its shape, where its attention weights lie.

    Args:
        model: a directory, a model id of the hub, or the name of an installed model: ``demo`` is built in.
        family: treat it as this family although its ``model_type`` says something else.
        fetch: download a model id whose weights are not in the hub's cache; otherwise they stay on the hub, and only
            the ranges that are read are fetched.

    Raises:
        CheckpointError: it cannot be read.
        FamilyError: its architecture is not known.
    """
    if isinstance(model, Layout):
        return model
    named = os.fspath(model)
    known = named_model(named)
    if known is not None:
        return detect_layout(open_store(known.checked_directory()), family)
    return detect_layout(open_store(named, fetch=fetch), family)


def load(model: str | os.PathLike[str], **arguments: Any) -> PreTrainedModel:
    """The causal language model ``model``, dense or pruned, as a transformers model in evaluation mode.

    Args:
        model: a directory, a model id of the hub, or the name of an installed model: ``demo`` is built in.
        arguments: for ``from_pretrained``: ``dtype``, ``device_map``, ``attn_implementation``, ...

    Raises:
        CheckpointError: it cannot be read, or holds other tensors than the model needs.
        MissingExtraError: torch or transformers is not installed.
    """
    named = os.fspath(model)
    known = named_model(named)
    return transformers_runtime.load(known.checked_directory() if known else locate(named), **arguments)


def laboratory(
    model: ModelLike | Laboratory,
    *,
    family: str | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    layer_by_layer: bool = False,
    activations: str | os.PathLike[str] | None = None,
) -> Laboratory:
    """A model that is loaded when it is first run and kept, for whoever asks several things of it.

    Args:
        layer_by_layer: hold one block's weights at a time, for models larger than memory.
        activations: a folder that then keeps the samples' activations, which otherwise stay in memory.

    Raises:
        CheckpointError, FamilyError: as :func:`open_model`.
    """
    from gatenorm.criteria.laboratory import Laboratory
    from gatenorm.models.model import Model

    if isinstance(model, Laboratory):
        return model
    spool = None if activations is None else Path(activations)
    return Laboratory(Model.of_layout(open_model(model, family), device=device, dtype=dtype), layer_by_layer, spool)


def is_model(given: ModelLike | Laboratory) -> TypeGuard[ModelLike]:
    """Whether that names a model, and is no laboratory; whose module is not imported for those who have none."""
    return isinstance(given, (str, os.PathLike, Layout))


def model_of(given: ModelLike | Laboratory) -> ModelLike:
    """What a laboratory works on; a model as it is."""
    return given if is_model(given) else given.layout  # type: ignore[union-attr]
