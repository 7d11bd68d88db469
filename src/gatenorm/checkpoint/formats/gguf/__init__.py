"""GGUF files: header, metadata, tensors and their quantised types, read without trust."""

from pathlib import Path

from gatenorm.checkpoint.formats.gguf.store import GgufStore
from gatenorm.checkpoint.store import TensorStore


class _Format:
    def recognises(self, place: str) -> bool:
        return place.lower().endswith(".gguf") and Path(place).is_file()

    def open(self, place: str) -> TensorStore:
        return GgufStore(Path(place))


FORMAT = _Format()
