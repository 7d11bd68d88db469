"""Evidence: one type of record for each kind of measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, cast, get_args

from msgspec.structs import fields, replace

from gatenorm.errors import RecordError
from gatenorm.extensions import extensions, working
from gatenorm.records.evidence.base import (
    Data as Data,
    Evidence as Evidence,
    Figure as Figure,
    Item as Item,
    Protocol as Protocol,
    kind_of as kind_of,
    of_type as of_type,
)
from gatenorm.records.evidence.comparison import (
    AnItem,
    Change as Change,
    ChangedItem as ChangedItem,
    Comparison as Comparison,
)
from gatenorm.records.evidence.diagnostic import (
    CheaperAtBudget as CheaperAtBudget,
    CheaperBaseline as CheaperBaseline,
    Cliff as Cliff,
    Diagnostic as Diagnostic,
    FewLayersShared as FewLayersShared,
    GateNormsDoNotFall as GateNormsDoNotFall,
    HighPerplexity as HighPerplexity,
    NotBeaten as NotBeaten,
    PerplexityJump as PerplexityJump,
    SharedLayers as SharedLayers,
    UnevenTasks as UnevenTasks,
)
from gatenorm.records.evidence.measured import Measured as Measured
from gatenorm.records.evidence.recovery import (
    HeldOutData as HeldOutData,
    Recovery as Recovery,
    RecoveryProtocol as RecoveryProtocol,
    TrainingData as TrainingData,
)
from gatenorm.records.evidence.speed import (
    PhaseTime as PhaseTime,
    Profile as Profile,
    ProfiledPhase as ProfiledPhase,
    Sample as Sample,
    Shares as Shares,
    Speed as Speed,
    SpeedProtocol as SpeedProtocol,
    Spread as Spread,
)
from gatenorm.records.evidence.tasks import (
    MULTISTEP as MULTISTEP,
    REFUSAL as REFUSAL,
    REFUSAL_METRICS as REFUSAL_METRICS,
    RETRIEVAL as RETRIEVAL,
    TASKS as TASKS,
    AverageProtocol as AverageProtocol,
    Cell as Cell,
    Harness as Harness,
    Multistep as Multistep,
    Refusal as Refusal,
    RefusalItem as RefusalItem,
    RefusalProtocol as RefusalProtocol,
    Retrieval as Retrieval,
    RetrievalItem as RetrievalItem,
    RetrievalProtocol as RetrievalProtocol,
    TaskEvidence as TaskEvidence,
    TaskItem as TaskItem,
    TaskProtocol as TaskProtocol,
    Topic as Topic,
    ZeroShot as ZeroShot,
    ZeroShotAverage as ZeroShotAverage,
)
from gatenorm.records.evidence.text import (
    Bucket as Bucket,
    Perplexity as Perplexity,
    Positions as Positions,
    TextProtocol as TextProtocol,
)
from gatenorm.records.evidence.verification import (
    Verification as Verification,
    VerificationProtocol as VerificationProtocol,
)
from gatenorm.records.evidence.workload import (
    Workload as Workload,
    WorkloadItem as WorkloadItem,
    WorkloadProtocol as WorkloadProtocol,
)
from gatenorm.records.serialization import Value, from_json


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
    """
    schema = str(data.get("schema")) if isinstance(data, Mapping) else ""
    if schema not in _kinds():
        working(extensions("evaluations"))
    kind = _kinds().get(schema, Perplexity)
    record = _comparison(data) if kind is Comparison else from_json(kind, data, "evidence")
    for field in ("model", "edits"):  # measurements get them from whoever measures; what was kept has them
        if field not in data:
            raise RecordError("field-missing", "is missing", field=field, hint="was evidence cut or edited?")
    return record


def _comparison(data: Mapping[str, object]) -> Comparison:
    """A comparison, its items read as items of what was compared."""
    record = from_json(Comparison, {**data, "items": []}, "evidence")
    given, changed = {"items": data.get("items", [])}, cast(Any, _ChangedItems)
    return replace(record, items=from_json(changed[_item_of(record.of)], given, "evidence").items)


class _ChangedItems(Value, Generic[AnItem], frozen=True):
    items: tuple[ChangedItem[AnItem], ...]


def _item_of(noun: str) -> Any:
    """The type of the items of a kind of evidence."""
    if not (known := [kind for schema, kind in _kinds().items() if f"/{noun}/" in schema]):
        working(extensions("evaluations"))
        known = [kind for schema, kind in _kinds().items() if f"/{noun}/" in schema]
    types = (field.type for kind in known for field in fields(kind) if field.name == "items")
    return next((get_args(kind)[0] for kind in types), Item)


def _kinds() -> dict[str, type[Evidence]]:
    kinds: dict[str, type[Evidence]] = {}
    waiting = [Evidence]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        kinds[str(kind.__struct_config__.tag)] = kind
    return kinds
