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
from typing import Any

from gatenorm.criteria.fingerprint import ROOMS
from gatenorm.results.hashes import code_sha256

# What a figure can depend on in this package. Of the audit's own room: what carries orders out. How they are put
# together and judged may change freely.
_CODE = ("api", *ROOMS, "recovery", "audit/run/job_runner.py")
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
        content = {"kind": self.kind, "key": self.key, "code": orders_code(), "versions": versions()}
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


def orders_code() -> str:
    """The hash of the code that carries orders out."""
    return code_sha256(*_CODE)
