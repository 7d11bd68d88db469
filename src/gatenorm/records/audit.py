"""What an audit found: ``audit.json``, of which every report is a view.

An audit holds evidence, what the gates say of it, and what was *not* looked at: every figure in a report comes from it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gatenorm.records.evidence import Diagnostic, Measurements
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.plan import Plan
from gatenorm.records.scores import Scores
from gatenorm.records.serialization import Record, Value

PASSES, FAILS, INCONCLUSIVE = "passes", "fails", "inconclusive"
PRUNED, RECOVERED = "pruned", "pruned and recovered"
CANDIDATE, COMPARISON = "candidate", "comparison"
DONE, PARTLY, NOT_DONE = "done", "partly", "not examined"


class GateResult(Value, frozen=True, kw_only=True):
    """One limit held against one figure.

    ``value`` and ``limit`` have the same ``unit`` (``%``, ``points``, ``items``, ``x``, ``nats``); without a value
    the outcome is *inconclusive*. ``low`` and ``high`` bound the value at 95% where an interval is known.
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


class AuditedVariant(Value, frozen=True, kw_only=True):
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
    outcome: str = INCONCLUSIVE
    gates: tuple[GateResult, ...] = ()
    evidence: Measurements = Measurements()
    rejected: str = ""
    worth: dict[str, Any] = msgspec.field(default_factory=dict)
    directory: str = ""


class Step(Value, frozen=True, kw_only=True):
    """One step of the workflow: whether it was done, what it found in a line, the command that repeats it."""

    name: str
    status: str
    detail: str
    seconds: float
    command: str = ""


class NotExamined(Value, frozen=True):
    """Something that the audit did not look at, why, and what would make it look."""

    what: str
    why: str
    how: str = ""


class Audit(Record, frozen=True, kw_only=True, tag="gatenorm/audit/1"):
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
    baseline: Measurements
    scores: tuple[Scores, ...]
    warnings: tuple[Diagnostic, ...]
    not_examined: tuple[NotExamined, ...]
    config: dict[str, Any]
    provenance: dict[str, Any]
    cross_check: dict[str, Any] | None = None
    comparison: dict[str, Any] | None = None
    search: dict[str, Any] | None = None
    version: str = ""
