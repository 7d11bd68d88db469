"""Figures in words: digits that count, units, signs, intervals."""

import math
from collections.abc import Callable, Mapping

from gatenorm.records.audit import DONE, FAILS, INFORMATION, NOT_DONE, PARTLY, PASSES
from gatenorm.records.numbers import bytes_for_people
from gatenorm.report.page.blocks import BAD, GOOD, OPEN, QUIET

NONE = "–"
MINUS = "−"
_TONES = {PASSES: GOOD, FAILS: BAD, DONE: GOOD, PARTLY: OPEN, NOT_DONE: QUIET, INFORMATION: QUIET}
_MOST = 400


def tone(outcome: str) -> str:
    """How an outcome is marked; an unknown one counts as open."""
    return _TONES.get(outcome, OPEN)


def number(value: float | None, digits: int = 4) -> str:
    """So many digits that count, without exponents where they can be avoided."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0:
        return "0"
    text = f"{value:,.0f}" if abs(value) >= 10 ** max(digits - 1, 3) else f"{value:.{digits}g}"
    return text.replace("-", MINUS)


def fixed(value: float | None, places: int = 1, sign: bool = False) -> str:
    """So many places behind the point; ``sign`` shows a plus too."""
    if value is None or not math.isfinite(value):
        return number(value)
    text = f"{value:{'+' if sign else ''},.{places}f}"
    return (text.lstrip("+-") if not text.strip("+-0.") else text).replace("-", MINUS)


def percent(share: float | None, places: int = 1, sign: bool = False) -> str:
    """A share as per cent."""
    return NONE if share is None else f"{fixed(100 * share, places, sign)}%"


def times(value: float | None) -> str:
    """A ratio such as a speed-up."""
    return NONE if value is None else f"{fixed(value, 2)}×"


def span(low: float | None, high: float | None, write: Callable[[float], str]) -> str:
    """``low to high`` as ``write`` puts numbers; nothing where an end is not known."""
    return "" if low is None or high is None else f"{write(low)} to {write(high)}"


def size(count: float | None) -> str:
    """``1.4 GB`` and the like, in powers of ten."""
    return NONE if count is None else bytes_for_people(count)


def minute(when: str) -> str:
    """``2026-11-28 23:49 UTC`` out of a date with seconds."""
    return f"{when[:10]} {when[11:16]} UTC" if when.endswith("Z") else when


def words(name: str) -> str:
    """A field's name as people write it."""
    return name.replace("_", " ").replace("sha256", "SHA-256")


def said(value: object) -> str:
    """Any plain value of a record in one line; long ones are cut."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 6)
    if isinstance(value, Mapping):
        text = ", ".join(f"{words(str(k))} {said(v)}" for k, v in value.items()) or NONE
    elif isinstance(value, (list, tuple)):
        text = ", ".join(said(v) for v in value) or NONE
    else:
        text = str(value)
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"


def facts(data: Mapping[str, object], leave: tuple[str, ...] = (), before: str = "") -> tuple[tuple[str, str], ...]:
    """A record's fields by name, nested ones behind the name that holds them."""
    listed: list[tuple[str, str]] = []
    for name, value in data.items():
        if name in leave or value is None or value == {}:
            continue
        called = f"{before}{words(str(name))}"
        if isinstance(value, Mapping):
            listed += facts(value, before=f"{called}: ")
        else:
            listed.append((called, said(value)))
    return tuple(listed)
