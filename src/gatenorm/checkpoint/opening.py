"""From what a user typed to an open checkpoint."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gatenorm.checkpoint.hub import cached, local_path, locate
from gatenorm.checkpoint.misfits import file_unknown
from gatenorm.checkpoint.store import Format, TensorStore
from gatenorm.errors import CheckpointError
from gatenorm.extensions import Extension, extensions, passing_over, wrong_kind


def open_store(model: str | os.PathLike[str], *, fetch: bool = True) -> TensorStore:
    """Open a checkpoint, whatever its format.

    Args:
        model: a local path, or as a string also a model id of the hub.
        fetch: download a model id whose weights are not in the hub's cache; otherwise they stay on the hub, and only
            the ranges that are read are fetched.

    Raises:
        CheckpointError: it is in no known format, damaged, incomplete, or cannot be fetched.
    """
    path = local_path(model) if isinstance(model, str) else Path(model)
    if path is None:
        return _open(os.fspath(locate(str(model)))) if fetch else _where_it_lies(str(model))
    if not path.exists():
        expected = "a directory with config.json and *.safetensors, or a .gguf file"
        raise CheckpointError("model-missing", f"{os.fspath(model)} does not exist", expected=expected)
    return _open(os.fspath(path))


def formats() -> Mapping[str, Extension]:
    """All formats by name."""
    return extensions("formats", ("gatenorm.checkpoint.formats",), "FORMAT")


def _where_it_lies(model_id: str) -> TensorStore:
    snapshot = cached(model_id)
    if snapshot is not None:
        with suppress(CheckpointError):  # a snapshot without its weights
            return _open(os.fspath(snapshot))
    return _open(model_id)


def _open(place: str) -> TensorStore:
    for extension in formats().values():
        recognised = False
        with passing_over(extension):
            form: Format = extension.load()
            recognised = form.recognises(place)
        if recognised:
            store = form.open(place)
            if not hasattr(store, "specs"):
                raise wrong_kind(f"what {extension} opens", store, "a TensorStore")
            return store
    raise file_unknown(place)
