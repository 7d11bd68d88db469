"""The figures of gates with their unit, as people write them."""

from gatenorm.records.audit import GateResult

_ATTACHED = ("x", "%")
# The unit of changes whose sign says in which direction, and that of losses, of which words do.
_CHANGE, _LOST = "%", "points"
# Three digits count; no more than so many are shown to tell a figure from its limit.
_DIGITS = range(3, 9)


def amount(value: float, unit: str, sign: bool = False, beside: float | None = None) -> str:
    """``1.19x``, ``1,160%``, ``1 item``: digits that count, no exponents; ``sign`` shows a plus too.

    Args:
        beside: a limit; as many more digits are written as it takes to show on which side of it ``value`` lies.
    """
    apart = (
        n for n in _DIGITS if beside in (None, value) or _number(value, unit, n) != _number(beside or 0.0, unit, n)
    )
    text = _number(value, unit, next(apart, _DIGITS[0]), "+" if sign else "")
    if unit in _ATTACHED:
        return text + unit
    return f"{text} {unit.removesuffix('s') if text.lstrip('+-') == '1' else unit}"


def _number(value: float, unit: str, digits: int, plus: str = "") -> str:
    if unit == "x":
        return f"{value:{plus}.{digits - 1}f}"
    if abs(value) >= 1000:
        return f"{value:{plus},.{digits - _DIGITS[0]}f}"
    return f"{value:{plus}.{digits}g}"


def figure(result: GateResult) -> str:
    """What was measured; of points, whether they were lost or gained."""
    return "not measured" if result.value is None else _signed(result.value, result)


def interval(result: GateResult) -> str:
    """From where to where that may lie; empty where it is not known."""
    if result.low is None or result.high is None:
        return ""
    return f"{_signed(result.low, result)} to {_signed(result.high, result)}"


def limit(result: GateResult) -> str:
    """``at most 6%``."""
    return f"at {'least' if result.least else 'most'} {amount(result.limit, result.unit)}"


def readable(name: str) -> str:
    """The name of a gate or a warning as words."""
    return name.replace("_", " ").replace("-", " ").replace("speed up", "speed-up")


def share(part: float) -> str:
    """``12.5%`` of sublayers: three digits that count."""
    return amount(100 * part, "%")


def _signed(value: float, result: GateResult) -> str:
    unit = result.unit
    if unit == _LOST:
        text = amount(abs(value), unit, beside=result.limit)
        return text if not value else f"{text} {'lost' if value > 0 else 'gained'}"
    return amount(value, unit, sign=unit == _CHANGE, beside=result.limit)
