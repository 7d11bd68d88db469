"""Work orders: what is to be measured, in plain data, so that any process can carry it out and any later one find it.

An order's ``arguments`` say how it is done; its ``key`` says what decides the result (the model's content, what was
removed, the protocol, the hashes of all data, threads), whatever paths are called today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gatenorm.results import Fingerprint, versions

_PACKAGES = ("lm_eval", "xllamacpp", "vllm", "peft")

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

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Everything that its result follows from."""
        return Fingerprint.of({"kind": self.kind, "key": self.key}, packages=_PACKAGES)

    @property
    def digest(self) -> str:
        """The name under which the result is kept."""
        return self.fingerprint.digest


def software() -> dict[str, str]:
    """Versions of the software that results rest on."""
    return versions(("numpy", *_PACKAGES))
