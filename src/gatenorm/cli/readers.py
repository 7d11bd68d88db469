"""Types of options that hold more than a word or a number, with how each is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from gatenorm.cli.declaration import Reader
from gatenorm.records.numbers import share_of

_MOST_LAYERS = 10_000


def _names(text: str) -> tuple[str, ...]:
    """Names out of ``gate-norm,cosine@self``; at least one."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError
    return names


def _numbers(text: str) -> list[int]:
    """Whole numbers above 0 out of ``128,512``."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 0 < int(part) < 2**31 for part in parts):
        raise ValueError
    return [int(part) for part in parts]


def _layers(text: str) -> list[int]:
    """Layer numbers out of ``20,21`` or ``4-6,9``."""
    layers: list[int] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        first, _, last = part.partition("-") if "-" in part else (part, "", part)
        if not (first.isdecimal() and last.isdecimal() and 0 <= int(last) - int(first) <= _MOST_LAYERS):
            raise ValueError
        layers += range(int(first), int(last) + 1)
    return layers


def _rows(text: str) -> int | None:
    """A batch size out of ``8``; None for ``auto``."""
    if text == "auto":
        return None
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise ValueError
    return int(text)


def _limit(text: str) -> tuple[str, str | None]:
    gate, equals, limit = text.partition("=")
    if not equals:
        raise ValueError
    return gate, None if limit == "off" else limit


def _limits(text: str) -> dict[str, int]:
    """Numbers by name out of ``8`` or ``refusal=32,domain=100``; the name of a number for all is empty."""
    limits: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.strip().rpartition("=")
        if not number.isdecimal() or not 0 < int(number) < 2**31:
            raise ValueError
        limits[name] = int(number)
    return limits


def _shares(text: str) -> list[float]:
    return [share_of(part) for part in text.split(",")]


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError
    return text == "on"


_ALSO = {"fp32": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}


def _dtype(text: str) -> str:
    """A data type of a run by torch's name; what is none is for the model's loader to refuse."""
    name = text.strip().lower().removeprefix("torch.")
    return _ALSO.get(name, name)


Dtype = Annotated[str, Reader(_dtype, "a data type")]
Switch = Annotated[bool, Reader(_switch, "on or off")]
Names = Annotated[tuple[str, ...], Reader(_names, "one name or more, with commas between them")]
Share = Annotated[float, Reader(share_of, "a number between 0 and 1, such as 0.2, or 20%")]
Shares = Annotated[Sequence[float], Reader(_shares, "shares such as 20%,40% or 0.2,0.4")]
Numbers = Annotated[Sequence[int], Reader(_numbers, "whole numbers above 0, such as 128,512")]
Layers = Annotated[Sequence[int], Reader(_layers, "layer numbers or ranges, such as 4-6,9")]
Rows = Annotated[int, Reader(_rows, "a whole number from 1, or auto")]
Limits = Annotated[dict[str, int], Reader(_limits, "a whole number above 0, or NAME=N for one evaluation: refusal=32")]
Limit = Annotated[tuple[str, str | None], Reader(_limit, "GATE=LIMIT, such as perplexity-rise=2%, or GATE=off")]
