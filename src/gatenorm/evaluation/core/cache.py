"""Results that need not be measured twice: one small JSON file each, found by the content of all that decides it.

The folder is ``$GATENORM_CACHE``, or what the platform sets aside for caches. A model is known by the sha256 of its
configuration, its tokenizer and all of its weights; hashing a file once is enough while its size and time of change
stay. A result is found again only by the code that measured it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gatenorm.errors import GatenormError
from gatenorm.evaluation.core.job import Progress
from gatenorm.families import Layout
from gatenorm.records import Evidence
from gatenorm.results.source_hash import code_sha256

VARIABLE = "GATENORM_CACHE"
# What a figure can depend on in this package.
_ROOMS = (
    "evaluation",
    "demo",
    "engines",
    "export",
    "models",
    "surgery",
    "families",
    "checkpoint",
    "records",
    "results",
)
_CHUNK = 16 << 20
# Beside the weights: whatever changes tokens, templates or defaults of generation.
_SMALL = ("*.json", "*.jinja", "*.model", "*.txt", "*.py")


def cache_directory() -> Path:
    """Where results are kept: ``$GATENORM_CACHE``, else the platform's place for caches."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "gatenorm/cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/gatenorm"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatenorm"


class Cache:
    """Finished measurements by key. A folder that cannot be written to, or a damaged file, is as good as none."""

    def __init__(self, directory: Path | None = None):
        self.directory = directory if directory is not None else cache_directory()

    def get(self, key: str) -> Evidence | None:
        """The record that was kept under this key."""
        try:
            return Evidence.from_json(json.loads(self._path(key).read_text(encoding="utf-8")))
        except (OSError, ValueError, GatenormError):
            return None

    def put(self, key: str, evidence: Evidence) -> bool:
        """Keep a record; returns whether that was possible."""
        return _write(self._path(key), json.dumps(evidence.to_json()))

    def content_of(self, layout: Layout, progress: Progress | None = None) -> str:
        """The sha256 over everything in a checkpoint that can change what the model does.

        Args:
            progress: called with (bytes hashed, bytes in all) where files have to be read.
        """
        directory = layout.checkpoint.directory
        small = sorted({path.name for pattern in _SMALL for path in directory.glob(pattern)})
        weights = layout.checkpoint.files
        total, done = sum(weights.values()), 0
        digest = hashlib.sha256()
        for name in small:
            digest.update(f"{name} {hashlib.sha256((directory / name).read_bytes()).hexdigest()}\n".encode())
        for name, size in weights.items():
            digest.update(f"{name} ".encode())
            for part in self._file_sha256(directory / name):
                if isinstance(part, str):
                    digest.update(part.encode())
                elif progress:
                    progress(done + part, total)
            done += size
        return digest.hexdigest()

    def _file_sha256(self, path: Path) -> Iterator[int | str]:
        """Yields how many bytes were read so far, at last the hash."""
        found = path.resolve().stat()
        memo = self.directory / "hashes" / _digest([str(path.resolve()), found.st_size, found.st_mtime_ns])
        with suppress(OSError):
            kept = memo.read_text(encoding="ascii")
            if len(kept) == 64:
                yield kept
                return
        digest, read = hashlib.sha256(), 0
        with path.open("rb") as handle:
            while chunk := handle.read(_CHUNK):
                digest.update(chunk)
                read += len(chunk)
                yield read
        _write(memo, digest.hexdigest())
        yield digest.hexdigest()

    def _path(self, key: str) -> Path:
        return self.directory / "evaluation" / f"{key}.json"


def key_of(content: Mapping[str, Any]) -> str:
    """The name of a result: a hash over everything that decides it."""
    return _digest({"code": code_sha256(*_ROOMS), **content})


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _write(path: Path, text: str) -> bool:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        return False
    return True
