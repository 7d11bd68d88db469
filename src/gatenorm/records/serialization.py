"""Records as JSON and back, read strictly: a known schema, every field there, of its type, and none besides.

A record is a frozen :class:`msgspec.Struct`. What is a file of its own derives from :class:`Record`, with
``tag="gatenorm/<noun>/<version>"`` that JSON holds under ``schema``; what only lies inside others, from :class:`Value`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gatenorm.errors import RecordError, did_you_mean

T = TypeVar("T")


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a record."""


class Record(Value, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema"):
    """A record that is a file of its own; its ``tag`` is its schema, version and all."""


def to_json(record: Any) -> Any:
    """Plain data for :func:`json.dumps`: what :func:`from_json` reads."""
    return _lists(msgspec.to_builtins(record, enc_hook=_encode))


def from_json(kind: type[T], data: Any, what: str) -> T:
    """The record in plain data.

    Args:
        kind: its type, such as ``Plan``.
        what: for errors: ``a plan``.

    Raises:
        RecordError: another schema, or a field that is missing, unknown, or of another type; ``field`` is its path.
    """
    schema = kind.__struct_config__.tag if isinstance(kind, type) and issubclass(kind, Record) else None
    if schema is not None:
        given = data.get("schema") if isinstance(data, Mapping) else None
        if given != schema:
            raise RecordError(
                "schema-unknown",
                f"this is not {what} that this release can read: it has schema {given!r:.60}",
                expected=repr(schema),
                hint="make it anew with this release",
            )
    try:
        return msgspec.convert(data, kind, strict=True, dec_hook=_decode)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _refused(error, kind, what) from None


def read_record(kind: type[T], path: Path, what: str) -> T:
    """The record in a JSON file.

    Raises:
        RecordError: no such file, no JSON, or as :func:`from_json`.
    """
    return from_json(kind, read_json(path, what), what)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in ``path``; ``what`` names it in errors.

    Raises:
        RecordError: no such file, not JSON, or not an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError("file-missing", f"{what}: there is no file {path}", given=None) from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, a number of 5,000 digits
        raise RecordError("json-unreadable", f"{what}: {path} is not readable JSON ({error})") from None
    if not isinstance(data, dict):
        raise RecordError("json-no-object", f"{what}: {path} holds {type(data).__name__}", expected="a JSON object")
    return data


_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`")


def _refused(error: Exception, kind: Any, what: str) -> RecordError:
    """Msgspec's complaint with the field's path, and the nearest known name for one that is not known."""
    message = str(error)
    at = _AT.search(message)
    path = at["path"] if at else ""
    problem = message[: at.start()] if at else message
    unknown = _UNKNOWN.search(problem)
    if unknown:
        return RecordError(
            "field-unknown",
            f"{what} has a field {unknown['name']!r:.60} that is not known" + (f" at {path}" if path else ""),
            field=f"{path}.{unknown['name']}".lstrip("."),
            hint=did_you_mean(unknown["name"], _fields_at(kind, path)),
        )
    missing = re.search(r"missing required field `([^`]*)`", problem)
    if missing:
        field = f"{path}.{missing[1]}".lstrip(".")
        return RecordError("field-missing", "is missing", field=field, hint=f"was {what} cut or edited?")
    return RecordError("field-wrong", f"in {what}: {problem}", field=path, hint="was the file edited?")


def _fields_at(kind: Any, path: str) -> tuple[str, ...]:
    """The fields of the struct that a path such as ``edits[...].layer`` leads to; none where that cannot be told."""
    for name in (part.split("[")[0] for part in path.split(".") if part):
        found = next((f.type for f in msgspec.structs.fields(kind) if f.encode_name == name), None)
        kind = _struct_in(found)
        if kind is None:
            return ()
    return tuple(field.encode_name for field in msgspec.structs.fields(kind)) if _struct_in(kind) else ()


def _struct_in(kind: Any) -> Any:
    """The struct that a type is, or holds: ``Edit`` of ``tuple[Edit, ...]`` and of ``Edit | None``."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return next((found for part in getattr(kind, "__args__", ()) if (found := _struct_in(part))), None)


def _lists(data: Any) -> Any:
    """Tuples as the lists that JSON gives back."""
    if isinstance(data, dict):
        return {key: _lists(value) for key, value in data.items()}
    return [_lists(value) for value in data] if isinstance(data, (list, tuple)) else data


def _encode(value: Any) -> Any:
    """Values that are no structs say themselves what they are as JSON."""
    if hasattr(value, "to_json"):
        return value.to_json()
    raise NotImplementedError(f"{type(value).__name__} cannot be written as JSON")


def _decode(kind: type, data: Any) -> Any:
    if hasattr(kind, "from_json"):
        return kind.from_json(data)
    raise NotImplementedError(f"{kind.__name__} cannot be read from JSON")
