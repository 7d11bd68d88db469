"""The configuration of a checkpoint as transformers reads it: what can be checked before a weight is loaded."""

from __future__ import annotations

from typing import Any

from gatenorm.errors import CheckpointError, MissingExtraError
from gatenorm.families import Layout, classes
from gatenorm.surgery.registration import register


def configuration(layout: Layout) -> Any:
    """The transformers configuration in the checkpoint's directory, of a dense model or a pruned one.

    Raises:
        CheckpointError: transformers cannot read it.
        MissingExtraError: transformers is not installed.
    """
    try:
        from transformers import AutoConfig
    except ImportError:
        raise MissingExtraError("running a model", "torch with transformers", "torch") from None
    register(classes())
    directory = layout.checkpoint.directory
    try:
        return AutoConfig.from_pretrained(directory, trust_remote_code=False)
    except Exception as error:  # strict dataclasses, JSON and value errors of many kinds
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"transformers cannot read the config of {directory}: {why:.200}") from error
