"""Measurements, and what in them makes a ranking or a removal doubtful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatenorm.records.identity import ModelIdentity
from gatenorm.records.removal import Removal
from gatenorm.records.validation import check_schema, layers, readable

EVIDENCE_SCHEMA = "gatenorm/evidence/1"
# Of models that lack MLPs too, which a release that knows the first only would not see.
EVIDENCE_SCHEMA_2 = "gatenorm/evidence/2"
WARNING_SCHEMA = "gatenorm/warning/1"


@dataclass(frozen=True)
class Evidence:
    """One measurement with everything that is needed to repeat it and to doubt it.

    ``figures`` are the measured numbers by name, ``protocol`` how they were taken (window, BOS, tokens, dtype, ...),
    ``data`` what they were taken on (name, sha256, bytes), ``versions`` the software that took them. ``items`` holds
    what was found on each single item, where figures of two models are to be compared item by item. ``removed`` names
    the layers without attention, ``removed_mlp`` those without MLP.
    """

    kind: str
    model: ModelIdentity
    removed: tuple[int, ...]
    figures: Mapping[str, float]
    protocol: Mapping[str, Any]
    data: Mapping[str, Any]
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)
    items: Sequence[Mapping[str, Any]] = ()
    removed_mlp: tuple[int, ...] = ()

    @property
    def removal(self) -> Removal:
        """The sublayers that the model lacks."""
        return Removal(self.removed, self.removed_mlp)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": EVIDENCE_SCHEMA_2 if self.removed_mlp else EVIDENCE_SCHEMA,
            "kind": self.kind,
            "model": self.model.to_json(),
            "removed": list(self.removed),
            **({"removed_mlp": list(self.removed_mlp)} if self.removed_mlp else {}),
            "figures": dict(self.figures),
            "protocol": dict(self.protocol),
            "data": dict(self.data),
            "seconds": self.seconds,
            "versions": dict(self.versions),
            **({"items": [dict(item) for item in self.items]} if self.items else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        mlps = check_schema(data, (EVIDENCE_SCHEMA, EVIDENCE_SCHEMA_2), "evidence") == EVIDENCE_SCHEMA_2
        with readable("evidence"):
            return cls(
                kind=str(data["kind"]),
                model=ModelIdentity.from_json(data["model"]),
                removed=layers(data["removed"]),
                figures={str(k): float(v) for k, v in data["figures"].items()},
                protocol=dict(data["protocol"]),
                data=dict(data["data"]),
                seconds=float(data["seconds"]),
                versions={str(k): str(v) for k, v in data.get("versions", {}).items()},
                items=tuple(dict(item) for item in data.get("items", ())),
                removed_mlp=layers(data["removed_mlp"]) if mlps else (),
            )


@dataclass(frozen=True)
class FailureSignature:
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
    def from_json(cls, data: Mapping[str, Any]) -> FailureSignature:
        check_schema(data, WARNING_SCHEMA, "a warning")
        with readable("a warning"):
            return cls(kind=str(data["kind"]), message=str(data["message"]), evidence=dict(data["evidence"]))
