"""GGUF files: header, metadata, tensors and their quantised types, read without trust."""

from pathlib import Path

from gatenorm.checkpoint.formats.gguf.model import GgufFile
from gatenorm.checkpoint.store import Format

FORMAT = Format(
    recognises=lambda place: place.lower().endswith(".gguf") and Path(place).is_file(),
    open=lambda place: GgufFile(Path(place)),
)
