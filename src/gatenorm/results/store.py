"""The one store of finished measurements: a file each, named by the fingerprint of all that it follows from."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from gatenorm.errors import GatenormError, OutputError
from gatenorm.files import LARGE, parse_json, read_small, write_text
from gatenorm.records.serialization import Record, from_json, read_record, to_json
from gatenorm.results.fingerprint import Fingerprint
from gatenorm.results.hashes import digest
from gatenorm.results.location import cache_directory

T = TypeVar("T")
_CLAIMS = "claims.json"


class _Kept(Record, frozen=True, kw_only=True, tag="gatenorm/result/2"):
    """``sha256`` is that of the result: nothing else says whether a figure is still the one that was measured."""

    fingerprint: Fingerprint
    sha256: str
    result: Any


class _Claims(Record, frozen=True, kw_only=True, tag="gatenorm/results/1"):
    """What the results of a directory follow from, by what they are called."""

    claims: dict[str, Fingerprint]


class ResultStore:
    """Finished measurements by fingerprint; a damaged file is as good as none.

    Args:
        directory: where the files lie; results that can be of use to any later run by default.
    """

    def __init__(self, directory: Path | None = None):
        self.directory = cache_directory() / "results" if directory is None else directory

    def get(self, fingerprint: Fingerprint, kind: type[T]) -> T | None:
        """The result that was kept for this fingerprint."""
        try:
            data = parse_json(read_small(self._path(fingerprint), LARGE), LARGE)
            kept = from_json(_Kept, data, "a result")
            if (kept.fingerprint, kept.sha256) != (fingerprint, digest(kept.result)):
                return None
            result, reader = kept.result, cast(Any, kind)
            return (
                cast(T, reader.from_json(result)) if hasattr(kind, "from_json") else from_json(kind, result, "a result")
            )
        except (OSError, ValueError, TypeError, LookupError, AttributeError, GatenormError):
            return None

    def put(self, fingerprint: Fingerprint, result: object) -> None:
        """Keep a result.

        Raises:
            OutputError: it cannot be written.
        """
        plain = json.loads(json.dumps(to_json(result)))
        kept = to_json(_Kept(fingerprint=fingerprint, sha256=digest(plain), result=plain))
        write_text(self._path(fingerprint), json.dumps(kept) + "\n", parents=True)

    def forget(self, fingerprint: Fingerprint) -> None:
        """Delete a result."""
        with suppress(OSError):
            self._path(fingerprint).unlink()

    def claim(self, name: str, fingerprint: Fingerprint, field: str) -> None:
        """Say what the results called ``name`` in this directory follow from; it must have been the same before.

        Args:
            field: the parameter that named the directory, for errors.

        Raises:
            OutputError: results of that name follow from something else (it says what differs), or the directory
                cannot be written.
            RecordError: what the directory says of itself is damaged.
        """
        path = self.directory / _CLAIMS
        claims = read_record(_Claims, path, "a directory of results").claims if path.exists() else {}
        if name not in claims:
            written = to_json(_Claims(claims={**claims, name: fingerprint}))
            write_text(path, json.dumps(written, indent=1) + "\n", parents=True)
        else:
            check_same(
                claims[name], fingerprint, f"holds another {name}", "name another directory", field, self.directory
            )

    def _path(self, fingerprint: Fingerprint) -> Path:
        return self.directory / f"{fingerprint.digest}.json"


def check_same(
    before: Fingerprint, now: Fingerprint, problem: str, hint: str, field: str = "", given: object = None
) -> None:
    """Raise OutputError, with the first things that differ, where results follow from something else than is asked."""
    differences = before.differences(now)
    if differences:
        raise OutputError("results-differ", f"{problem} ({differences})", field=field, given=given, hint=hint)
