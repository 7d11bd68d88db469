"""The gates: one limit each, held against one figure, as rows of a table.

With a 95% interval ``[low, high]`` around the figure, a variant

- *passes* a gate when the figure and the whole interval are within the limit,
- *fails* when the figure and the whole interval are beyond it,
- and is *inconclusive* when the limit lies inside the interval: more items would tell.

A figure without an interval decides by itself, unless it varies from item to item and rests on too few for an interval:
then it is inconclusive. So is a loss of right answers where the unpruned model does no better than chance.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from gatenorm.audit.judge import metrics
from gatenorm.audit.judge.metrics import Find, GateValue
from gatenorm.errors import AuditError, did_you_mean
from gatenorm.evaluation.core.registry import standard_tasks
from gatenorm.evaluation.core.task import Metric, Task
from gatenorm.findings import Findings
from gatenorm.records.audit import (
    BY_CHANCE,
    FAILS,
    INCONCLUSIVE,
    PASSES,
    QUALITY,
    SAFETY,
    SPEED,
    WORST_FIRST,
    GateResult,
)
from gatenorm.report.gate_figures import amount


@dataclass(frozen=True)
class Gate:
    """What is judged (``find``) in ``unit``, the default ``limit`` (``None``: only where one is given), and why.

    ``least`` says that the limit is the smallest value that passes rather than the largest. ``needs`` names the
    evaluation that it rests on, ``aspect`` what it speaks of. ``probes`` says that a budget search can use it.
    """

    name: str
    unit: str
    limit: float | None
    reason: str
    needs: str
    find: Find
    least: bool = False
    aspect: str = QUALITY
    probes: bool = True


SPEED_UP = "speed-up"
_SPEED_UP = "the paper measured 1.06x without 4 of 40 sublayers; below 1.02x a variant is not worth its risk"
_VERIFY = "an export that computes something else is another model than the one that was measured"
# The gates that rest on no evaluation.
_OTHERS = (
    Gate(SPEED_UP, "x", 1.02, _SPEED_UP, "speed", metrics.speed_up, least=True, aspect=SPEED, probes=False),
    Gate("verify", "faults", 0.0, _VERIFY, "verify", metrics.verify_faults, aspect=SAFETY, probes=False),
)


@cache
def gates() -> Mapping[str, Gate]:
    """All gates by name: one for each evaluation that says how it is judged, then those on speed and exports."""
    judged = [_gate_of(task, task.metric) for task in standard_tasks().values() if task.metric is not None]
    return {gate.name: gate for gate in (*judged, *_OTHERS)}


def _gate_of(task: Task, metric: Metric) -> Gate:
    return Gate(
        name=metric.gate or task.name,
        unit=metric.unit,
        limit=metric.limit,
        reason=metric.reason,
        needs=task.name,
        find=metrics.finder(task, metric),
        least=task.compares and metric.more_is_better,
        aspect=metric.aspect,
    )


def check_gates(given: Mapping[str, object]) -> dict[str, float | None]:
    """Limits by gate; ``None`` (or ``off``, which YAML reads as false) takes a gate away.

    Raises:
        AuditError: an unknown gate, or a limit that is no number.
    """
    checked: dict[str, float | None] = {}
    for name, limit in given.items():
        if name not in gates():
            raise AuditError("gate-unknown", "is not a gate", field=f"gates.{name}", hint=did_you_mean(name, gates()))
        checked[name] = None if limit is None or limit is False else number_of(limit, gates()[name])
    return checked


def number_of(limit: object, gate: Gate) -> float:
    """A limit as a number; texts may carry the gate's unit, as ``2%`` does.

    Raises:
        AuditError: it is none, or below 0.
    """
    text = limit.strip().removesuffix(gate.unit).strip() if isinstance(limit, str) else limit
    number = float("nan")
    if isinstance(text, (str, int, float)) and not isinstance(text, bool):
        with suppress(ValueError):
            number = float(text)
    if not 0 <= number < float("inf"):
        field, expected = f"gates.{gate.name}", f"a number of {gate.unit} from 0"
        raise AuditError("limit-wrong", "is not a limit", field=field, given=f"{limit}", expected=expected)
    return number


def limits(given: Mapping[str, object]) -> dict[str, float]:
    """All limits that apply: the defaults, changed by what was given."""
    merged = {name: gate.limit for name, gate in gates().items()} | check_gates(given)
    return {name: limit for name, limit in merged.items() if limit is not None}


def evaluate_gate(gate: Gate, limit: float, findings: Findings) -> GateResult:
    """What a gate says of a variant; *inconclusive* where nothing that it is about was measured.

    Of several figures (texts, engines) the one with the worst outcome counts, and of those the one farthest off.
    """
    values = gate.find(findings)
    if not values:
        return _result(gate, limit, None, INCONCLUSIVE, "not measured")
    results = [_judge(gate, limit, value) for value in ((values,) if isinstance(values, GateValue) else values)]
    sign = 1.0 if gate.least else -1.0
    return min(results, key=lambda r: (WORST_FIRST.index(r.outcome), sign * (r.value or 0.0)))


def _judge(gate: Gate, limit: float, value: GateValue) -> GateResult:
    outcome = outcome_at(limit, value, least=gate.least)
    distance = amount(abs(value.value - limit), gate.unit)
    if value.by_chance:
        detail = BY_CHANCE
    elif value.too_few:
        detail = "too few for an interval: more would tell"
    elif outcome == INCONCLUSIVE:
        detail = "the limit lies inside the interval: more would tell"
    else:
        detail = f"{'beyond' if outcome == FAILS else 'within'} the limit by {distance}"
    return _result(gate, limit, value, outcome, f"{detail}; {value.detail}" if value.detail else detail)


def outcome_at(limit: float, value: GateValue, *, least: bool = False) -> str:
    """The one rule by which a figure and its interval pass a limit, fail it, or are inconclusive."""
    if value.by_chance or value.too_few:
        return INCONCLUSIVE
    sign = -1.0 if least else 1.0
    beyond = [sign * v > sign * limit for v in (value.value, value.low, value.high) if v is not None]
    return FAILS if all(beyond) else INCONCLUSIVE if any(beyond) else PASSES


def _result(gate: Gate, limit: float, value: GateValue | None, outcome: str, detail: str) -> GateResult:
    return GateResult(
        gate=gate.name,
        limit=limit,
        unit=gate.unit,
        value=None if value is None else value.value,
        outcome=outcome,
        detail=detail,
        reason=gate.reason,
        low=None if value is None else value.low,
        high=None if value is None else value.high,
        aspect=gate.aspect,
        least=gate.least,
    )


def outcome_of(results: Sequence[GateResult], rejected: str = "") -> str:
    """What all gates together say: one failure is enough; to pass, all must, one of them about quality."""
    if rejected or any(r.outcome == FAILS for r in results):
        return FAILS
    passes = all(r.outcome == PASSES for r in results) and any(r.aspect == QUALITY for r in results)
    return PASSES if passes else INCONCLUSIVE
