"""What an audit found: ``audit.json``, of which every report is a view.

An audit holds evidence, what the gates say of it, and what was *not* looked at; nothing in a report stands for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatenorm.records.evidence import Diagnostic, Evidence
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.plan import Plan
from gatenorm.records.scores import Scores
from gatenorm.records.serialization import from_json, to_json
from gatenorm.records.validation import check_schema, readable

AUDIT_SCHEMA = "gatenorm/audit/1"

STANDS, FALLS, NOT_PROVEN = "stands", "falls", "not proven"
PRUNED, RECOVERED = "pruned", "pruned and recovered"
CANDIDATE, COMPARISON = "candidate", "comparison"
DONE, PARTLY, NOT_DONE = "done", "partly", "not examined"


@dataclass(frozen=True)
class GateResult:
    """One limit held against one figure.

    ``value`` and ``limit`` have the same ``unit`` (``%``, ``points``, ``items``, ``x``, ``nats``); without a value
    the outcome is *not proven*. ``low`` and ``high`` bound the value at 95% where an interval is known.
    """

    gate: str
    limit: float
    unit: str
    value: float | None
    outcome: str
    detail: str
    reason: str
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "gate": self.gate,
            "limit": self.limit,
            "unit": self.unit,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "outcome": self.outcome,
            "detail": self.detail,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GateResult:
        return cls(
            gate=str(data["gate"]),
            limit=float(data["limit"]),
            unit=str(data["unit"]),
            value=_number(data["value"]),
            outcome=str(data["outcome"]),
            detail=str(data["detail"]),
            reason=str(data["reason"]),
            low=_number(data.get("low")),
            high=_number(data.get("high")),
        )


@dataclass(frozen=True)
class AuditedVariant:
    """One pruned model: what was removed by which criterion, what was measured, and what the gates say.

    ``role`` is ``candidate`` or, for the baselines that a criterion must beat, ``comparison``. ``budget`` is the name
    of its share (``conservative``, ``practical``, ``aggressive``, ``adaptation``) or ``asked``. ``rejected`` says why
    nothing more was measured of a variant that proved unstable. ``worth`` holds what it saves in money.
    """

    name: str
    criterion: str
    budget: str
    share: float
    plan: Plan
    role: str = CANDIDATE
    state: str = PRUNED
    outcome: str = NOT_PROVEN
    gates: tuple[GateResult, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    rejected: str = ""
    worth: Mapping[str, Any] = field(default_factory=dict)
    directory: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "criterion": self.criterion,
            "budget": self.budget,
            "share": self.share,
            "role": self.role,
            "state": self.state,
            "outcome": self.outcome,
            "rejected": self.rejected,
            "worth": dict(self.worth),
            "directory": self.directory,
            "plan": to_json(self.plan),
            "gates": [gate.to_json() for gate in self.gates],
            "evidence": [evidence.to_json() for evidence in self.evidence],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AuditedVariant:
        return cls(
            name=str(data["name"]),
            criterion=str(data["criterion"]),
            budget=str(data["budget"]),
            share=float(data["share"]),
            plan=from_json(Plan, data["plan"], "an audit"),
            role=str(data["role"]),
            state=str(data["state"]),
            outcome=str(data["outcome"]),
            gates=tuple(GateResult.from_json(gate) for gate in data["gates"]),
            evidence=tuple(Evidence.from_json(evidence) for evidence in data["evidence"]),
            rejected=str(data.get("rejected", "")),
            worth=dict(data.get("worth", {})),
            directory=str(data.get("directory", "")),
        )


@dataclass(frozen=True)
class Step:
    """One step of the workflow: whether it was done, what it found in a line, the command that repeats it."""

    name: str
    status: str
    detail: str
    seconds: float
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": self.status,
            "detail": self.detail,
            "seconds": self.seconds,
            "command": self.command,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Step:
        return cls(
            name=str(data["name"]),
            status=str(data["status"]),
            detail=str(data["detail"]),
            seconds=float(data["seconds"]),
            command=str(data.get("command", "")),
        )


@dataclass(frozen=True)
class NotExamined:
    """Something that the audit did not look at, why, and what would make it look."""

    what: str
    why: str
    how: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"what": self.what, "why": self.why, "how": self.how}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NotExamined:
        return cls(str(data["what"]), str(data["why"]), str(data.get("how", "")))


@dataclass(frozen=True)
class Audit:
    """A whole audit.

    ``verdict`` has three sentences; ``chosen`` names the variant that they recommend, if any. ``baseline`` is the
    evidence on the unpruned model; ``scores`` are all rankings that were made, the first the one asked for;
    ``cross_check`` and ``comparison`` are those records as JSON. ``provenance`` holds software versions, the machine,
    seeds, hashes of all data, and when it ran.
    """

    model: ModelIdentity
    verdict: tuple[str, ...]
    chosen: str | None
    steps: tuple[Step, ...]
    variants: tuple[AuditedVariant, ...]
    baseline: tuple[Evidence, ...]
    scores: tuple[Scores, ...]
    warnings: tuple[Diagnostic, ...]
    not_examined: tuple[NotExamined, ...]
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    cross_check: Mapping[str, Any] | None = None
    comparison: Mapping[str, Any] | None = None
    search: Mapping[str, Any] | None = None
    version: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": AUDIT_SCHEMA,
            "version": self.version,
            "model": to_json(self.model),
            "verdict": list(self.verdict),
            "chosen": self.chosen,
            "steps": [step.to_json() for step in self.steps],
            "variants": [variant.to_json() for variant in self.variants],
            "baseline": [evidence.to_json() for evidence in self.baseline],
            "scores": [to_json(scores) for scores in self.scores],
            "cross_check": None if self.cross_check is None else dict(self.cross_check),
            "comparison": None if self.comparison is None else dict(self.comparison),
            "search": None if self.search is None else dict(self.search),
            "warnings": [warning.to_json() for warning in self.warnings],
            "not_examined": [thing.to_json() for thing in self.not_examined],
            "config": dict(self.config),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Audit:
        check_schema(data, AUDIT_SCHEMA, "an audit")
        with readable("an audit"):
            return cls(
                model=from_json(ModelIdentity, data["model"], "an audit"),
                verdict=tuple(str(sentence) for sentence in data["verdict"]),
                chosen=None if data["chosen"] is None else str(data["chosen"]),
                steps=tuple(Step.from_json(step) for step in data["steps"]),
                variants=tuple(AuditedVariant.from_json(variant) for variant in data["variants"]),
                baseline=tuple(Evidence.from_json(evidence) for evidence in data["baseline"]),
                scores=tuple(from_json(Scores, scores, "an audit") for scores in data["scores"]),
                warnings=tuple(Diagnostic.from_json(warning) for warning in data["warnings"]),
                not_examined=tuple(NotExamined.from_json(thing) for thing in data["not_examined"]),
                config=dict(data["config"]),
                provenance=dict(data["provenance"]),
                cross_check=None if data.get("cross_check") is None else dict(data["cross_check"]),
                comparison=None if data.get("comparison") is None else dict(data["comparison"]),
                search=None if data.get("search") is None else dict(data["search"]),
                version=str(data.get("version", "")),
            )


def _number(given: Any) -> float | None:
    return None if given is None else float(given)
