"""Which code a result rests on: a version number alone would let yesterday's working tree pass for today's."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

# What is carried out, and the data it reads; weights of the built-in model are known as those of any other.
_READ = (".py", ".json", ".jsonl")
_WEIGHTS = "model"


@cache
def code_sha256(*places: str) -> str:
    """The hash of this package's code in ``places``: rooms, or files such as ``audit/work.py``."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for place in places:
        found = package / place
        for path in sorted(found.rglob("*")) if found.is_dir() else [found]:
            if path.suffix in _READ and _WEIGHTS not in path.relative_to(package).parts:
                digest.update(f"{path.relative_to(package)} ".encode() + path.read_bytes())
    return digest.hexdigest()
