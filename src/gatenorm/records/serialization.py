"""Records as JSON and back, read strictly: a known schema, every field there, of its type, and none besides.

A record is a frozen :class:`msgspec.Struct`. What is a file of its own derives from :class:`Record`, with
``tag="gatenorm/<noun>/<version>"`` that JSON holds under ``schema``; what only lies inside others, from :class:`Value`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from gatenorm.errors import RecordError, did_you_mean
from gatenorm.files import SMALL, parse_json, read_small
from gatenorm.records.table import Table

T = TypeVar("T")


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a record."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, as JSON files hold it."""
        data: dict[str, Any] = to_json(self)
        return data


class Record(Table, Value, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema"):
    """A record that is a file of its own; its ``tag`` is its schema, version and all. It is a :class:`Table` too."""


def to_json(record: object) -> Any:
    """Plain data for :func:`json.dumps`: what :func:`from_json` reads."""
    return _lists(msgspec.to_builtins(record, enc_hook=_encode))


def from_json(kind: type[T], data: object, what: str, hint: str | None = None, path: Path | None = None) -> T:
    """The record in plain data.

    Args:
        kind: its type, such as ``Plan``.
        what: for errors: ``a plan``.
        hint: for errors: what may have happened to it; by default, that it was edited.
        path: for errors: the file that it was read from.

    Raises:
        RecordError: another schema, or a field that is missing, unknown, or of another type; ``field`` is its path.
    """
    schema = kind.__struct_config__.tag if isinstance(kind, type) and issubclass(kind, Record) else None
    if schema is not None:
        given = data.get("schema") if isinstance(data, Mapping) else None
        if given != schema:
            subject = "this" if path is None else path
            known, hint = (" that this release can read", "make it anew with this release") if given else ("", "")
            problem = f"{subject} is not {what}{known}: it has schema {given!r:.60}"
            raise RecordError("schema-unknown", problem, expected=repr(schema), hint=hint)
    try:
        return msgspec.convert(data, kind, strict=True, dec_hook=_decode)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _refused(error, kind, data, what, f"was {what} edited?" if hint is None else hint) from None


def read_record(kind: type[T], path: Path, what: str) -> T:
    """The record in a JSON file.

    Raises:
        RecordError: no such file, no JSON, or as :func:`from_json`.
    """
    return from_json(kind, read_json(path, what), what, path=path)


def read_json(path: Path, what: str, most: int = SMALL) -> dict[str, Any]:
    """The JSON object in a regular file of at most ``most`` bytes; ``what`` names it in errors.

    Raises:
        RecordError: no such file, not JSON, too large or too deep, or not an object.
    """
    try:
        data = parse_json(read_small(path, most), most)
    except FileNotFoundError:
        raise RecordError("file-missing", f"{what}: there is no file {path}", given=None) from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, not JSON, a number of 5,000 digits
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise RecordError("json-unreadable", f"{what}: {path} is not readable JSON ({why})") from None
    if not isinstance(data, dict):
        raise RecordError("json-no-object", f"{what}: {path} holds {type(data).__name__}", expected="a JSON object")
    return data


_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`")


def _refused(error: Exception, kind: Any, data: object, what: str, hint: str) -> RecordError:
    """Msgspec's complaint with the field's path, the value there, and the nearest known name for an unknown one."""
    problem, path = str(error), ""
    while at := _AT.search(problem):  # values that read themselves add their own path
        problem, path = (
            problem[: at.start()],
            f"{path}{at['path']}" if at["path"].startswith("[") else f"{path}.{at['path']}",
        )
    path = path.lstrip(".")
    unknown = _UNKNOWN.search(problem)
    if unknown:
        field = f"{path}.{unknown['name']}".lstrip(".")
        return RecordError(
            "field-unknown",
            "is not known",
            field=field,
            hint=did_you_mean(unknown["name"], _known_at(kind, data, path)),
        )
    missing = re.search(r"missing required field `([^`]*)`", problem)
    if missing:
        return RecordError(
            "field-missing", f"is missing in {what}", field=f"{path}.{missing[1]}".lstrip("."), hint=hint
        )
    if not problem.startswith(("Expected ", "Invalid ")):  # what a record says of all its fields together
        return RecordError("field-wrong", f"is not valid: {problem}", field=path or what, hint=hint)
    expected = problem.removeprefix("Expected ").partition(", got ")[0].replace("`", "")
    for name, word in _WORDS.items():
        expected = re.sub(rf"\b{name}\b", word, expected)
    given = _value_at(data, path)
    if problem.startswith(("Invalid enum value", "Invalid value")):
        return RecordError(
            "field-wrong",
            "is not known",
            field=path,
            given=given,
            hint=did_you_mean(given, _known_at(kind, data, path)),
        )
    return RecordError("field-wrong", "is not valid", field=path or what, given=given, expected=expected, hint=hint)


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "keys and values",
}


def _step(data: Any, path: str) -> Any:
    """The value that a path such as ``budgets.shares[1]`` leads to; ``UNSET`` where it leads nowhere."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        try:
            data = data[name] if name else data[int(index)]
        except (LookupError, TypeError):
            return msgspec.UNSET
    return data


def _value_at(data: object, path: str) -> str:
    """The value at a path, as it may be shown."""
    value = _step(data, path)
    return "" if value is msgspec.UNSET else (value if isinstance(value, str) and value else repr(value))[:60]


def _known_at(kind: Any, data: object, path: str) -> tuple[str, ...]:
    """The fields or words that the type of ``edits[0].operation`` allows; none where that cannot be told."""
    for part in filter(None, path.split(".")):
        name, struct = part.split("[")[0], _struct_of(kind, data)
        if struct and name == _config(struct).tag_field:
            return tuple(_config(one).tag for one in _structs_in(kind))
        kind = next((f.type for f in msgspec.structs.fields(struct) if f.encode_name == name), None) if struct else None
        data = _step(data, part)
    struct = _struct_of(kind, data)
    return tuple(f.encode_name for f in msgspec.structs.fields(struct)) if struct else _words_in(kind)


def _words_in(kind: Any) -> tuple[str, ...]:
    """The words of a Literal that a type is, or holds."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return next((words for part in get_args(kind) if (words := _words_in(part))), ())


def _struct_of(kind: Any, data: object) -> Any:
    """The struct that a type is, or holds: ``Edit`` of ``tuple[Edit, ...]``; of several, that of the data's tag."""
    structs = _structs_in(kind)
    given = data.get(_config(structs[0]).tag_field) if structs and isinstance(data, Mapping) else None
    return next((one for one in structs if _config(one).tag == given), structs[0] if structs else None)


def _structs_in(kind: Any) -> list[Any]:
    origin = get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        return [kind]
    return [struct for part in getattr(kind, "__args__", ()) for struct in _structs_in(part)]


def _config(struct: Any) -> Any:
    return (get_origin(struct) or struct).__struct_config__


def _lists(data: object) -> Any:
    """Tuples as the lists that JSON gives back."""
    if isinstance(data, dict):
        return {key: _lists(value) for key, value in data.items()}
    return [_lists(value) for value in data] if isinstance(data, (list, tuple)) else data


def _encode(value: object) -> float:
    if isinstance(value, float):  # a kind of its own, such as Share
        return float(value)
    raise NotImplementedError(f"{type(value).__name__} cannot be written as JSON")


def _decode(kind: type, data: object) -> Any:
    if kind is object:  # a value of which nothing is known
        return data
    if hasattr(kind, "from_json"):
        return kind.from_json(data)
    raise NotImplementedError(f"{kind.__name__} cannot be read from JSON")
