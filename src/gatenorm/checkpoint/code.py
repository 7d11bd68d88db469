"""Entries of JSON files that make other libraries run code: none is believed, and none is written into a new model."""

from collections.abc import Iterator, Mapping
from typing import Any

_CLASSES = "auto_map"
# How attention and experts are computed; with a slash in it, that is a kernel of the hub, which is fetched and run.
_COMPUTED = ("attn_implementation", "experts_implementation")
_KEYS = (
    _CLASSES,
    *(f"{before}{key}{after}" for key in _COMPUTED for before in ("", "_") for after in ("", "_internal")),
)


def without_code(data: Any) -> Any:
    """The same plain data without entries that name code, or how to compute."""
    if isinstance(data, Mapping):
        return {key: without_code(value) for key, value in data.items() if key not in _KEYS}
    return [without_code(value) for value in data] if isinstance(data, list) else data


def kernel_named(config: Any) -> str | None:
    """The kernel of the hub that a configuration asks for."""
    return next((name for name in _implementations(config) if "/" in name), None)


def _implementations(data: Any) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            if key in _KEYS and key != _CLASSES:
                yield from (str(name) for name in (value.values() if isinstance(value, Mapping) else [value]))
            yield from _implementations(value)
    elif isinstance(data, list):
        for value in data:
            yield from _implementations(value)
