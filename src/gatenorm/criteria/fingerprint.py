"""What kept measurements belong to, beside what was asked for: the checkpoint's content, the code, versions of others.

Figures of a run that goes on where it was must not come from two tokenizers, two releases, or two states of the code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gatenorm.evaluation.core.cache import Cache
from gatenorm.evaluation.core.runner import versions
from gatenorm.families import Layout
from gatenorm.records import to_json
from gatenorm.results.hashes import code_sha256

# What a figure of this room can depend on.
ROOMS = (
    "analysis",
    "checkpoint",
    "criteria",
    "demo",
    "engines",
    "evaluation",
    "export",
    "families",
    "models",
    "records",
    "results",
    "speed",
    "surgery",
)
_SHOWN = 32  # characters of a hash


def model_key(layout: Layout) -> dict[str, Any]:
    """A checkpoint by its identity without its name, and by the hash of all that decides what it does.

    Unlike the identity alone, the hash covers every weight and the tokenizer.
    """
    identity = {key: value for key, value in to_json(layout.identity()).items() if key != "name"}
    return {**identity, "content": Cache().content_of(layout)[:_SHOWN]}


def software(rooms: Sequence[str] = ROOMS, packages: Sequence[str] = ()) -> dict[str, str]:
    """The hash of this package's code in ``rooms``, and versions, those of ``packages`` among them."""
    return {"code": code_sha256(*rooms)[:_SHOWN], **versions(("numpy", *packages))}


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The first things in which two keys differ, for people: ``rank 4, now 8; model.content 1f.., now 2e..``."""
    left, right = _flattened(theirs), _flattened(json.loads(json.dumps(ours)))
    differing = [name for name in sorted({*left, *right}) if left.get(name) != right.get(name)]
    return "; ".join(f"{name} {left.get(name)!s:.40}, now {right.get(name)!s:.40}" for name in differing[:3])


def _flattened(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, Mapping):
        return {prefix: data}
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= _flattened(value, f"{prefix}.{name}" if prefix else str(name))
    return found
