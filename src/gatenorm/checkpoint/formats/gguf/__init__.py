"""GGUF files: header, metadata, tensors and their quantised types, read without trust."""

from __future__ import annotations

from pathlib import Path

from gatenorm.checkpoint.store import TensorStore
from gatenorm.errors import CheckpointError


class _Format:
    def recognises(self, place: str) -> bool:
        return place.lower().endswith(".gguf") and Path(place).is_file()

    def open(self, place: str) -> TensorStore:
        raise CheckpointError(
            "gguf-no-model",
            f"{place} is a file: an export, not a model that can be pruned",
            expected="a directory with config.json and *.safetensors",
        )


FORMAT = _Format()
