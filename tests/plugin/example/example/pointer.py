"""A tensor format: a text file that holds the path of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from gatenorm.checkpoint import TensorStore, open_store


class Pointer:
    """Files that end in ``.pointer``."""

    def recognises(self, place: str) -> bool:
        return place.endswith(".pointer")

    def open(self, place: str) -> TensorStore:
        return open_store(Path(place).read_text(encoding="utf-8").strip())


FORMAT = Pointer()
