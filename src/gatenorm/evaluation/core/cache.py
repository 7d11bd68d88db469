"""Results that need not be measured twice: one small JSON file each, found by the content of all that decides it.

The folder is ``$GATENORM_CACHE``, or what the platform sets aside for caches. A model is known by the sha256 of its
configuration, its tokenizer and all of its weights; hashing a file once is enough while its size and time of change
stay. A result is found again only by the code that measured it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatenorm.errors import GatenormError, OutputError
from gatenorm.evaluation.core.job import Progress
from gatenorm.families import Layout
from gatenorm.files import write_text
from gatenorm.records import Evidence
from gatenorm.results.hashes import code_sha256, digest
from gatenorm.results.location import cache_directory

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
        try:
            write_text(self._path(key), json.dumps(evidence.to_json()), parents=True)
        except OutputError:
            return False
        return True

    def content_of(self, layout: Layout, progress: Progress | None = None) -> str:
        """The sha256 over everything in a checkpoint that can change what the model does.

        Args:
            progress: called with (bytes hashed, bytes in all) where files have to be read.
        """
        return layout.checkpoint.fingerprint(progress)

    def _path(self, key: str) -> Path:
        return self.directory / "evaluation" / f"{key}.json"


def key_of(content: Mapping[str, Any]) -> str:
    """The name of a result: a hash over everything that decides it."""
    return digest({"code": code_sha256(*_ROOMS), **content})
