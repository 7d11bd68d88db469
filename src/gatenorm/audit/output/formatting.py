"""The figures of gates with their unit, as people write them."""

from __future__ import annotations

from gatenorm.records.audit import GateResult
from gatenorm.report.page.wording import lost

_ATTACHED = ("x", "%")
# The unit of changes whose sign says in which direction, and that of losses, of which words do.
_CHANGE, _LOST = "%", "points"


def amount(value: float, unit: str, sign: bool = False) -> str:
    """``1.19x``, ``1,160%``, ``1 item``: digits that count, no exponents; ``sign`` shows a plus too."""
    plus = "+" if sign else ""
    if unit == "x":
        text = f"{value:{plus}.2f}"
    elif abs(value) >= 1000:
        text = f"{value:{plus},.0f}"
    else:
        text = f"{value:{plus}.3g}"
    if unit in _ATTACHED:
        return text + unit
    return f"{text} {unit.removesuffix('s') if text.lstrip('+-') == '1' else unit}"


def figure(result: GateResult) -> str:
    """What was measured; of points, whether they were lost or gained."""
    return "not measured" if result.value is None else _signed(result.value, result.unit)


def interval(result: GateResult) -> str:
    """From where to where that may lie; empty where it is not known."""
    if result.low is None or result.high is None:
        return ""
    return f"{_signed(result.low, result.unit)} to {_signed(result.high, result.unit)}"


def _signed(value: float, unit: str) -> str:
    if unit == _LOST:
        return lost(value, lambda points: amount(points, unit))
    return amount(value, unit, sign=unit == _CHANGE)
