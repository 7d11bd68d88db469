"""Checkpoint directories, sound and spoilt, written by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

CONFIG = {"model_type": "llama"}


def header_bytes(table: Any) -> bytes:
    """A header of any content whatever, with a truthful length."""
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write_checkpoint(directory: Path, files: dict[str, bytes], index: Any = None, config: Any = CONFIG) -> Path:
    """``config`` and ``index`` as JSON, or as they are where they are bytes; ``None`` leaves them out."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    for name, content in (("config.json", config), ("model.safetensors.index.json", index)):
        if content is not None:
            (directory / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return directory
