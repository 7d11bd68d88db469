"""Measurements, and what in them makes a ranking or a removal doubtful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatenorm.records.edit import Edits
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.serialization import from_json, to_json
from gatenorm.records.validation import check_schema, readable

EVIDENCE_SCHEMA = "gatenorm/evidence/1"
WARNING_SCHEMA = "gatenorm/warning/1"


@dataclass(frozen=True)
class Evidence:
    """One measurement with everything that is needed to repeat it and to doubt it.

    ``figures`` are the measured numbers by name, ``protocol`` how they were taken (window, BOS, tokens, dtype, ...),
    ``data`` what they were taken on (name, sha256, bytes), ``versions`` the software that took them. ``items`` holds
    what was found on each single item, where figures of two models are to be compared item by item. ``edits`` are
    those of the model.
    """

    kind: str
    model: ModelIdentity
    edits: Edits
    figures: Mapping[str, float]
    protocol: Mapping[str, Any]
    data: Mapping[str, Any]
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)
    items: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": EVIDENCE_SCHEMA,
            "kind": self.kind,
            "model": to_json(self.model),
            "edits": self.edits.to_json(),
            "figures": dict(self.figures),
            "protocol": dict(self.protocol),
            "data": dict(self.data),
            "seconds": self.seconds,
            "versions": dict(self.versions),
            **({"items": [dict(item) for item in self.items]} if self.items else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        check_schema(data, EVIDENCE_SCHEMA, "evidence")
        with readable("evidence"):
            return cls(
                kind=str(data["kind"]),
                model=from_json(ModelIdentity, data["model"], "evidence"),
                edits=Edits.from_json(data["edits"]),
                figures={str(k): float(v) for k, v in data["figures"].items()},
                protocol=dict(data["protocol"]),
                data=dict(data["data"]),
                seconds=float(data["seconds"]),
                versions={str(k): str(v) for k, v in data.get("versions", {}).items()},
                items=tuple(dict(item) for item in data.get("items", ())),
            )


@dataclass(frozen=True)
class Diagnostic:
    """Something seen that makes a ranking or a removal doubtful: its ``kind``, a line for people, and what it rests on.

    ``evidence`` holds the figures that were compared, and the limits that they were compared with.
    """

    kind: str
    message: str
    evidence: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": WARNING_SCHEMA,
            "kind": self.kind,
            "message": self.message,
            "evidence": dict(self.evidence),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Diagnostic:
        check_schema(data, WARNING_SCHEMA, "a warning")
        with readable("a warning"):
            return cls(kind=str(data["kind"]), message=str(data["message"]), evidence=dict(data["evidence"]))
