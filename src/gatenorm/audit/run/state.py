"""The output directory as the audit's state: what was measured lies there, one whole file each.

audit.json, report.*   the result, written last
variants/NAME          the pruned checkpoints; exports/, recovered/ likewise
state/audit.json       whose directory this is
state/config.json      what was asked for last
state/made/*.json      what a variant, an export or a training was made of
state/measured/*.json  results of jobs, by the hash of all that they follow from
state/lock             held while an audit runs
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gatenorm.errors import AuditError, OutputError
from gatenorm.files import locked, remove_partials, write_errors, write_json, write_text
from gatenorm.records import ModelIdentity, from_json, read_json, to_json
from gatenorm.results import ResultStore

STATE_SCHEMA = "gatenorm/audit-state/1"


# What the audit was last asked to do, as --config reads it.
CONFIG_FILE = Path("state") / "config.json"


class State:
    """Results, and what variants were made of. Files appear whole or not at all."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.results = ResultStore(directory / "state" / "measured")

    def variant(self, name: str, room: str = "variants") -> Path:
        """Where the pruned checkpoint of that name lies, or will."""
        return self.directory / room / name

    def keep_only(self, name: str, made_of: Mapping[str, Any], *paths: Path) -> None:
        """Take away ``paths`` unless they were made, or half made, of just this; from now on they are to be.

        Raises:
            OutputError: the stamp cannot be written.
        """
        stamp = self.stamp(name)
        if self.read_stamp(stamp) == json.loads(json.dumps(made_of, default=list)):
            return
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.write_stamp(stamp, made_of)

    def stamp(self, name: str) -> Path:
        """The file that says what the variant of that name was made of."""
        return self.directory / "state" / "made" / f"{name}.json"

    def read_stamp(self, stamp: Path) -> dict[str, Any] | None:
        """What it says; none where it says nothing that can be read."""
        try:
            found = json.loads(stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write_stamp(self, stamp: Path, made_of: Mapping[str, Any]) -> None:
        """Say it, once the variant is there.

        Raises:
            OutputError: it cannot be written.
        """
        write_text(stamp, json.dumps(made_of, default=list) + "\n", parents=True)

    def clear(self) -> None:
        """Take away what an audit that was killed left half done."""
        for folder in ("variants", "exports", "recovered", "state", "state/made", "state/measured"):
            remove_partials(self.directory / folder)


def check_directory(directory: Path, model: ModelIdentity) -> None:
    """Refuse a directory that is another model's, or no audit's at all.

    Raises:
        AuditError: it holds something else.
    """
    if directory.is_symlink() and not directory.exists():
        raise AuditError("link-broken", "is a broken link", field="directory", given=directory)
    if not directory.exists():
        return
    if not directory.is_dir():
        raise AuditError("not-a-directory", "is a file", field="directory", given=directory, expected="a directory")
    marker = directory / "state" / "audit.json"
    if not marker.exists():
        others = [p.name for p in directory.iterdir() if p.name != "state"]
        if others:
            raise AuditError(
                "not-empty",
                "is not empty and holds no audit",
                field="directory",
                given=directory,
                expected="a new directory",
            )
        return
    found = read_json(marker, "the audit's state")
    if found.get("schema") != STATE_SCHEMA:
        raise AuditError(
            "other-release",
            f"holds an audit of another release ({found.get('schema')})",
            field="directory",
            given=directory,
            expected="a new directory",
        )
    try:
        owner = from_json(ModelIdentity, found["model"], "the state of an audit")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise AuditError(
            "state-damaged",
            f"cannot be resumed: {marker} is damaged",
            field="directory",
            given=directory,
            expected="a new directory",
        ) from None
    if not owner.same_weights(model):
        raise AuditError(
            "other-model",
            f"holds the audit of another model ({owner.name}, {owner.layers} layers)",
            field="directory",
            given=directory,
            hint=f"give {model.name} a directory of its own",
        )


def claim(directory: Path, model: ModelIdentity, version: str) -> float:
    """Mark a directory as this model's; returns when its audit was begun, in seconds since the epoch."""
    marker = directory / "state" / "audit.json"
    if marker.exists():
        return float(read_json(marker, "the audit's state").get("began", 0.0))
    began = time.time()
    content = {"schema": STATE_SCHEMA, "model": to_json(model), "version": version, "began": began}
    write_json(marker, content, parents=True)
    return began


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold a directory; the system gives it free when this process ends, however it ends.

    Raises:
        AuditError: another process holds it.
        OutputError: it cannot be written to.
    """

    def busy(holder: str) -> AuditError:
        return AuditError(
            "locked",
            f"is in use by {holder}",
            field="directory",
            given=directory,
            hint="wait for it, or give another directory",
        )

    with locked(directory / "state" / "lock", busy):
        yield


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Failures to write, with what to do where the disk is full.

    Raises:
        OutputError: as said.
    """
    try:
        with write_errors(directory):
            yield
    except OutputError as error:
        if error.code == "disk-full":
            error.hint = f"free space for {directory} and run the same command again: it continues where it stopped"
        raise
