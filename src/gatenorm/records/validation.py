"""Reading what others wrote: schemas that are known, fields that are there and of their type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gatenorm.errors import PlanError


class readable:  # noqa: N801 - reads as a statement: `with readable("a plan"):`
    """Turns a missing or ill-typed field of a record into one line that names it."""

    def __init__(self, what: str):
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, KeyError):
            raise PlanError(
                "field-missing", f"{self.what} lacks the field {error.args[0]!r}: was the file cut or edited?"
            ) from error
        if isinstance(error, (TypeError, ValueError, AttributeError, OverflowError)):
            raise PlanError(
                "field-wrong", f"{self.what} holds a field of the wrong type ({error}): was the file edited?"
            ) from error


def whole(given: Any) -> int:
    """A whole number from 0; anything else is a ValueError."""
    if type(given) is int and given >= 0:
        return given
    raise ValueError(f"{given!r:.40} is no whole number")  # int(1.5) would be layer 1


def layers(given: Any) -> tuple[int, ...]:
    """A list of layer indices; anything else is a ValueError."""
    if not isinstance(given, (list, tuple)):
        raise ValueError(f"{given!r:.40} is no list of layers")  # "12" would be layers 1 and 2
    return tuple(whole(i) for i in given)


def score(given: Any) -> float:
    """A number that can be ranked; anything else is a ValueError."""
    if isinstance(given, (int, float)) and not isinstance(given, bool) and not math.isnan(given):
        return float(given)
    raise ValueError(f"the score {given!r:.40} is no number")  # NaN has no place in a ranking


def check_schema(data: Mapping[str, Any], expected: str | Sequence[str], what: str) -> str:
    """The schema of ``data``; one that is not ``expected``, or none of them, is refused by name.

    Raises:
        PlanError: another schema, another version of this one, or no JSON object at all.
    """
    known = (expected,) if isinstance(expected, str) else tuple(expected)
    given = data.get("schema") if isinstance(data, Mapping) else None
    if given not in known:
        wanted = " or ".join(map(repr, known))
        raise PlanError(
            "schema-unknown", f"this is not {what} that this release can read: schema {given!r}, expected {wanted}"
        )
    return str(given)
