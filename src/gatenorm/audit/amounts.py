"""The figures of gates with their unit, as people write them."""

from __future__ import annotations

from gatenorm.records.audit import GateResult

_ATTACHED = ("x", "%")
# Units of changes, whose sign says in which direction.
_CHANGES = ("%", "points")


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
    """What was measured."""
    return "not measured" if result.value is None else _signed(result.value, result.unit)


def interval(result: GateResult) -> str:
    """From where to where that may lie; empty where it is not known."""
    if result.low is None or result.high is None:
        return ""
    return f"{_signed(result.low, result.unit)} to {_signed(result.high, result.unit)}"


def _signed(value: float, unit: str) -> str:
    return amount(value, unit, sign=unit in _CHANGES)
