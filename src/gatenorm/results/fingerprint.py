"""What a result follows from: models, code, versions of software, and what was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version

from gatenorm.extensions import installed
from gatenorm.records.serialization import Value, to_json
from gatenorm.results.hashes import code_sha256, digest

# What every measurement rests on, where it is installed.
SOFTWARE = ("gatenorm", "torch", "transformers", "tokenizers")
_SHOWN = 32  # characters of a hash


class Fingerprint(Value, frozen=True, kw_only=True, dict=True):
    """Everything that a result follows from, as plain JSON. Equal fingerprints have equal results.

    Attributes:
        asked: what was asked for: protocol, settings, hashes of all data.
        models: what the models compute, by role: :meth:`gatenorm.checkpoint.TensorStore.fingerprint`.
        versions: of the software that was used, extensions of gatenorm included.
        code: the hash of gatenorm's code.
    """

    asked: dict[str, object]
    models: dict[str, str]
    versions: dict[str, str]
    code: str

    @classmethod
    def of(
        cls, asked: Mapping[str, object], models: Mapping[str, str] | None = None, packages: Sequence[str] = ()
    ) -> Fingerprint:
        """The fingerprint of what is asked of ``models`` with the software of today.

        Args:
            packages: what is used besides :data:`SOFTWARE`; those that are not installed do not count.
        """
        return cls(
            asked=_plain(asked),
            models={role: content[:_SHOWN] for role, content in (models or {}).items()},
            versions=versions(("numpy", *packages)) | installed().versions(),
            code=code_sha256()[:_SHOWN],
        )

    def asking(self, **more: object) -> Fingerprint:
        """The same with more that was asked for."""
        return Fingerprint(
            asked=self.asked | _plain(more),
            models=self.models,
            versions=self.versions,
            code=self.code,
        )

    @cached_property
    def digest(self) -> str:
        """The name under which the result is kept."""
        return digest(to_json(self))[:40]

    def differences(self, other: Fingerprint) -> str:
        """The first things in which another one differs, for people: ``rank 4, now 8; model 1f.., now 2e..``."""
        left, right = self._flat(), other._flat()
        differing = [name for name in sorted({*left, *right}) if left.get(name) != right.get(name)]
        return "; ".join(f"{name} {left.get(name)!s:.40}, now {right.get(name)!s:.40}" for name in differing[:3])

    def _flat(self) -> dict[str, object]:
        software = {"software": {**self.versions, "code": self.code}}
        return _flattened(self.asked) | self.models | _flattened(software)


def _plain(asked: Mapping[str, object]) -> dict[str, object]:
    """Through JSON and back, so that it equals what was read from a file."""
    plain: dict[str, object] = json.loads(json.dumps(to_json(asked)))
    return plain


@cache
def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # not needed, or run from a source tree
        return None


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Versions of the software that a measurement rests on, of ``packages`` too where they are installed."""
    return {name: version for name in (*SOFTWARE, *packages) if (version := _installed(name)) is not None}


def _flattened(data: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(data, Mapping):
        return {prefix: data}
    flat: dict[str, object] = {}
    for name, value in data.items():
        flat |= _flattened(value, f"{prefix}.{name}" if prefix else str(name))
    return flat
