"""Hashes of code and of large files: what a result rests on is known by content, not by version or path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from gatenorm.errors import OutputError
from gatenorm.files import write_text
from gatenorm.results.location import cache_directory

_CHUNK = 16 << 20
# Code, and the data that it reads; weights of the built-in model are hashed as those of any other.
_READ = (".py", ".json", ".jsonl")
_WEIGHTS = "model"


def digest(content: Any) -> str:
    """The sha256 of plain JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True, default=list).encode()).hexdigest()


@cache
def code_sha256(*places: str) -> str:
    """The hash of this package's code in ``places``: packages, or files such as ``audit/run/job_runner.py``."""
    package = Path(__file__).resolve().parents[1]
    whole = hashlib.sha256()
    for place in places:
        found = package / place
        for path in sorted(found.rglob("*")) if found.is_dir() else [found]:
            if path.suffix in _READ and _WEIGHTS not in path.relative_to(package).parts:
                whole.update(f"{path.relative_to(package)} ".encode() + path.read_bytes())
    return whole.hexdigest()


def file_sha256(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """The hash of a file, remembered between runs for as long as its size and time of change stay the same.

    Args:
        progress: called with the number of bytes read so far.
    """
    found = path.resolve().stat()
    memo = cache_directory() / "hashes" / digest([str(path.resolve()), found.st_size, found.st_mtime_ns])
    with suppress(OSError, UnicodeDecodeError):
        kept = memo.read_text(encoding="ascii")
        if len(kept) == 64:
            return kept
    whole, read = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            whole.update(chunk)
            read += len(chunk)
            if progress:
                progress(read)
    with suppress(OutputError):  # a cache that cannot be written to costs time, nothing else
        write_text(memo, whole.hexdigest(), parents=True)
    return whole.hexdigest()
