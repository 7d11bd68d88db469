"""A parser of ours as the fuzzers call it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Parser:
    """``read(content)`` reads the file, or refuses it with an error of ours.

    ``form`` is that of ``samples``, which are sound. Of a parser that is ``slow`` a twentieth as many are tried.
    """

    name: str
    samples: tuple[bytes, ...]
    read: Callable[[bytes], object]
    form: str = "json"
    slow: bool = False


def text(data: Any) -> bytes:
    """As JSON."""
    return json.dumps(data).encode()


def lines(*rows: Any) -> bytes:
    """As JSON, a row a line."""
    return b"\n".join(map(text, rows)) + b"\n"


def at(folder: Path, name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Reads a file of that name in the folder."""

    def written(content: bytes) -> object:
        path = folder / name
        path.write_bytes(content)
        return read(path)

    return written
