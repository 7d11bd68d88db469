"""Numbers and their ranges, as types: of records, of settings, of the command line's options."""

from __future__ import annotations

import operator
import sys
from contextlib import suppress
from typing import Annotated, Any, get_args

from msgspec import Meta
from rich.filesize import decimal

# Whole numbers up to what every library and every reader of JSON holds exactly.
LARGEST = 2**53
Count = Annotated[int, Meta(ge=1, le=LARGEST)]
Index = Annotated[int, Meta(ge=0, le=LARGEST)]
# A window has a token to predict from and one to predict.
Window = Annotated[int, Meta(ge=2, le=LARGEST)]
# More than any machine has; each takes memory.
Threads = Annotated[int, Meta(ge=1, le=4096)]
# What the generators of random numbers accept.
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Amount = Annotated[float, Meta(ge=0.0)]
LARGEST_FLOAT = sys.float_info.max
Positive = Annotated[float, Meta(gt=0.0, le=LARGEST_FLOAT)]
# A share that is never all.
Part = Annotated[float, Meta(ge=0.0, lt=1.0)]

_BOUNDS = {
    "ge": (operator.ge, "{} or more"),
    "gt": (operator.gt, "more than {}"),
    "le": (operator.le, "at most {}"),
    "lt": (operator.lt, "less than {}"),
}


def out_of_range(number: float, kind: Any) -> str:
    """What a number of a type would have to be, such as ``1 or more``; empty where it is in the type's range.

    What is no number at all compares with none, and is in no range.
    """
    for note in (note for part in (kind, *get_args(kind)) for note in getattr(part, "__metadata__", ())):
        for bound, (fits, expected) in _BOUNDS.items():
            limit = getattr(note, bound, None)
            if limit is not None and not fits(number, limit):
                return expected.format(f"{limit:g}" if isinstance(limit, float) else limit)
    return ""


def share_of(given: object) -> float:
    """The number that a share is stated by: ``0.2`` or, as text, ``20%``.

    Raises:
        ValueError: it is none.
    """
    text = "" if isinstance(given, bool) else str(given).strip()
    return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)


class Share(float):
    """A share of the sublayers that leaves some and removes some; text may state it as ``20%``."""

    least, most = 0.001, 0.999

    @classmethod
    def from_json(cls, given: object) -> Share:
        """A share out of ``0.2`` or ``"20%"``.

        Raises:
            ValueError: anything else.
        """
        with suppress(ValueError):
            share = cls(share_of(given))
            if cls.least <= share <= cls.most:
                return share
        raise ValueError(f"Expected `a share from {cls.least:g} to {cls.most:g}, such as 0.2 or 20%`")


class Portion(Share):
    """A share that may be nothing, or all."""

    least, most = 0.0, 1.0


def duration(seconds: float) -> str:
    """``12 s``, ``3 min`` and the like."""
    if seconds < 1:
        return "under 1 ms" if seconds < 0.001 else f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def bytes_for_people(count: float) -> str:
    """``1.4 GB`` and the like, in powers of ten."""
    return decimal(int(count))


def quantity(number: int, noun: str) -> str:
    """``1 layer``, ``2 layers`` and the like."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
