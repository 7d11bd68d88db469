"""Sound inputs made unsound: bytes that are flipped, cut and doubled, values of JSON replaced, deleted and moved."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Iterator
from typing import Any

import yaml

ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, float("nan"), float("inf"), -1e-300),
    *("", "x", "x" * 5000, "\x1b[31m\u202e", "../../x", "\ud800", "1e30", "llama", "linear", "yarn", "[" * 9000),
    *([], {}, [[]], [None], [1, "a"], {"a": 1}, {"": {}}, [0] * 3000, [[[[[[[[[[1]]]]]]]]]]),
]


def mutated(data: Any, draw: random.Random) -> Any:
    """Plain data with one to four places replaced, deleted, or filled from elsewhere."""
    data = copy.deepcopy(data)
    for _ in range(draw.randint(1, 4)):
        places = list(_places(data))
        if not places:
            return draw.choice(ODD)
        owner, key = draw.choice(places)
        kind = draw.randrange(5)
        if kind == 0:
            del owner[key]
        elif kind == 1:
            other, where = draw.choice(places)
            owner[key] = copy.deepcopy(other[where])
        elif kind == 2 and isinstance(owner, dict):
            owner[draw.choice(["x", str(key) + "s", "\x1b"])] = owner.pop(key)
        else:
            owner[key] = copy.deepcopy(draw.choice(ODD))
    return data


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield data, key
        yield from _places(value)


def scrambled(data: bytes, draw: random.Random) -> bytes:
    """Bytes that are flipped, cut, doubled, or hold a number too large."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(found) + 1)
        kind = draw.randrange(5)
        if kind == 0:
            del found[at : at + draw.choice([1, 4, 8, len(found)])]
        elif kind == 1:
            found[at:at] = found[at : at + draw.randrange(64)]
        elif kind == 2:
            size, code = draw.choice([(4, "<I"), (8, "<Q")])
            found[at : at + size] = struct.pack(code, draw.choice([0, 1, 255, 2**31, 2**32 - 1]))
        elif at < len(found):
            found[at] = draw.randrange(256)
    return bytes(found)


def mutant(sound: bytes, form: str, draw: random.Random) -> bytes:
    """An input like a sound one; ``form`` is ``json``, ``lines`` (of JSON), ``yaml`` or ``bytes``.

    Of JSON and YAML most mutants can be parsed, so that what reads the values meets them; the rest is scrambled too.
    """
    if form == "bytes":
        return scrambled(sound, draw)
    if form == "lines":
        rows = mutated([json.loads(line) for line in sound.splitlines() if line.strip()], draw)
        text = b"\n".join(json.dumps(row).encode() for row in (rows if isinstance(rows, list) else [rows]))
    elif form == "json":
        text = json.dumps(mutated(json.loads(sound), draw)).encode()
    else:
        text = yaml.safe_dump(mutated(yaml.safe_load(sound), draw)).encode("utf-8", "surrogatepass")
    return scrambled(text, draw) if draw.randrange(4) == 0 else text
