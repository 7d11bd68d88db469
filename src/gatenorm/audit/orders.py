"""Work orders: what is to be measured, in plain data, so that any process can carry it out and any later one find it.

An order's ``arguments`` say how it is done; its ``key`` says what decides the result (the model's content, what was
removed, the protocol, the hashes of all data, threads), whatever paths are called today.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# What a figure can depend on in this package.
_CODE = (
    "api",
    "audit",
    "benchmark",
    "calibration",
    "checkpoint",
    "criteria",
    "demo",
    "evaluation",
    "families",
    "records",
    "recovery",
    "runtimes",
    "surgery",
)
# Of the audit's own room: what carries orders out. How they are put together and judged may change freely.
_OWN_CODE = ("work.py",)
_PACKAGES = ("gatenorm", "numpy", "torch", "transformers", "tokenizers", "lm_eval", "xllamacpp", "vllm", "peft")

Result = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """One piece of work.

    ``kind`` names the function that does it, ``title`` is for people, ``like`` groups orders that take about as long
    as each other. ``kept`` is false for what leaves something better than a record behind, as a build does.
    """

    kind: str
    title: str
    arguments: Mapping[str, Any]
    key: Mapping[str, Any] = field(default_factory=dict)
    like: str = ""
    kept: bool = True

    @property
    def digest(self) -> str:
        """The name under which the result is kept."""
        content = {"kind": self.kind, "key": self.key, "code": code_sha256(), "versions": versions()}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()[:40]


@cache
def versions() -> dict[str, str]:
    """Versions of the software that results rest on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def code_sha256() -> str:
    """The hash of the code that carries orders out: a version number alone would hide what was changed since."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for folder in _CODE:
        for path in sorted((package / folder).rglob("*")):
            own = folder != "audit" or path.name in _OWN_CODE
            if own and path.suffix in (".py", ".json", ".jsonl") and "model" not in path.relative_to(package).parts:
                digest.update(f"{path.relative_to(package)} ".encode() + path.read_bytes())
    return digest.hexdigest()
