"""Evidence: one type of record for each kind of measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatenorm.errors import RecordError
from gatenorm.extensions import extensions
from gatenorm.records.evidence.base import Data, Evidence, Figure, Item, Protocol, kind_of, of_type
from gatenorm.records.evidence.comparison import Change, ChangedItem, Comparison
from gatenorm.records.evidence.diagnostic import Diagnostic
from gatenorm.records.evidence.recovery import HeldOutData, Recovery, RecoveryProtocol, TrainingData
from gatenorm.records.evidence.speed import (
    PhaseTime,
    Profile,
    ProfiledPhase,
    Sample,
    Shares,
    Speed,
    SpeedProtocol,
    Spread,
)
from gatenorm.records.evidence.tasks import (
    REFUSAL,
    REFUSAL_METRICS,
    RETRIEVAL,
    TASKS,
    AverageProtocol,
    Cell,
    Harness,
    Refusal,
    RefusalItem,
    RefusalProtocol,
    Retrieval,
    RetrievalItem,
    RetrievalProtocol,
    TaskEvidence,
    TaskItem,
    TaskProtocol,
    Topic,
    ZeroShot,
    ZeroShotAverage,
)
from gatenorm.records.evidence.text import Bucket, Perplexity, Positions, TextProtocol
from gatenorm.records.evidence.verification import Verification, VerificationProtocol
from gatenorm.records.evidence.workload import Workload, WorkloadItem, WorkloadProtocol
from gatenorm.records.serialization import from_json

__all__ = [
    "REFUSAL",
    "REFUSAL_METRICS",
    "RETRIEVAL",
    "TASKS",
    "AverageProtocol",
    "Bucket",
    "Cell",
    "Change",
    "ChangedItem",
    "Comparison",
    "Data",
    "Diagnostic",
    "Evidence",
    "Figure",
    "Harness",
    "HeldOutData",
    "Item",
    "Measurements",
    "Perplexity",
    "PhaseTime",
    "Positions",
    "Profile",
    "ProfiledPhase",
    "Protocol",
    "Recovery",
    "RecoveryProtocol",
    "Refusal",
    "RefusalItem",
    "RefusalProtocol",
    "Retrieval",
    "RetrievalItem",
    "RetrievalProtocol",
    "Sample",
    "Shares",
    "Speed",
    "SpeedProtocol",
    "Spread",
    "TaskEvidence",
    "TaskItem",
    "TaskProtocol",
    "TextProtocol",
    "Topic",
    "TrainingData",
    "Verification",
    "VerificationProtocol",
    "Workload",
    "WorkloadItem",
    "WorkloadProtocol",
    "ZeroShot",
    "ZeroShotAverage",
    "evidence_from_json",
    "kind_of",
    "of_type",
]


class Measurements(tuple[Evidence, ...]):
    """Records of any kinds, each read as what its schema names."""

    __slots__ = ()

    @classmethod
    def from_json(cls, data: Any) -> Measurements:
        return cls(map(evidence_from_json, data))


def evidence_from_json(data: Any) -> Evidence:
    """The record in plain data, of whatever kind its schema names.

    Kinds are the subclasses of :class:`Evidence`; those of evaluations that other packages add are imported when one of
    them may be meant.

    Raises:
        RecordError: no such kind, or as :func:`from_json`.
        GatenormError: a package that may define the kind cannot be imported.
    """
    schema = str(data.get("schema")) if isinstance(data, Mapping) else ""
    if schema not in _kinds():
        for added in extensions("evaluations").values():
            added.load()
    record = from_json(_kinds().get(schema, Perplexity), data, "evidence")
    for field in ("model", "edits"):  # measurements get them from whoever measures; what was kept has them
        if field not in data:
            raise RecordError("field-missing", "is missing", field=field, hint="was evidence cut or edited?")
    return record


def _kinds() -> dict[str, type[Evidence]]:
    kinds: dict[str, type[Evidence]] = {}
    waiting = [Evidence]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        kinds[str(kind.__struct_config__.tag)] = kind
    return kinds
