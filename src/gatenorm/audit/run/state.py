"""The output directory as the audit's state: what was measured lies there, one whole file each.

audit.json, report.*   the result, written last
variants/NAME          the pruned checkpoints; exports/, recovered/ likewise
state/audit.json       whose directory this is
state/config.json      what was asked for last
state/made/*.json      what a variant, an export or a training was made of
state/measured/*.json  results of orders, by the hash of all that decides them
state/lock             held while an audit runs
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from gatenorm.audit.run.jobs import Order, Result
from gatenorm.errors import AuditError, OutputError
from gatenorm.records import ModelIdentity, from_json, read_json, to_json

STATE_SCHEMA = "gatenorm/audit-state/1"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


# What the audit was last asked to do, as --config reads it.
CONFIG_FILE = Path("state") / "config.json"


class State:
    """Results by order. Nothing is ever half there: files are written beside their place and renamed."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._measured = directory / "state" / "measured"

    def get(self, order: Order) -> Result | None:
        """The result of an order that was carried out before; a damaged file is as good as none."""
        try:
            found = json.loads(self._path(order).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found.get("result") if isinstance(found, dict) and isinstance(found.get("result"), dict) else None

    def put(self, order: Order, result: Result) -> None:
        """Keep a result.

        Raises:
            OutputError: the disk is full, or the directory cannot be written to.
        """
        content = {"kind": order.kind, "title": order.title, "key": dict(order.key), "result": result}
        write_text(self._path(order), json.dumps(content, default=list) + "\n", self.directory)

    def forget(self, order: Order) -> None:
        """Drop a result whose files are not there any more."""
        with suppress(OSError):
            self._path(order).unlink()

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
        write_text(stamp, json.dumps(made_of, default=list) + "\n", self.directory)

    def clear(self) -> None:
        """Take away what an audit that was killed left half done."""
        for room in ("variants", "exports", "recovered"):
            for path in (self.directory / room).glob(".*.partial-*"):
                shutil.rmtree(path, ignore_errors=True)
        for path in (self.directory / "state").rglob(".partial-*"):
            with suppress(OSError):
                path.unlink()

    def _path(self, order: Order) -> Path:
        return self._measured / f"{order.digest}.json"


def check_directory(directory: Path, model: ModelIdentity) -> None:
    """Refuse a directory that is another model's, or no audit's at all.

    Raises:
        AuditError: it holds something else.
    """
    if directory.is_symlink() and not directory.exists():
        raise AuditError(f"-o {directory} is a link that leads nowhere")
    if not directory.exists():
        return
    if not directory.is_dir():
        raise AuditError(f"-o {directory} is a file: give a directory")
    marker = directory / "state" / "audit.json"
    if not marker.exists():
        others = [p.name for p in directory.iterdir() if p.name != "state"]
        if others:
            raise AuditError(f"-o {directory} is not empty and holds no audit: give a new directory")
        return
    found = read_json(marker, "the audit's state")
    if found.get("schema") != STATE_SCHEMA:
        raise AuditError(f"-o {directory} holds an audit of another release ({found.get('schema')}): give a new one")
    try:
        owner = from_json(ModelIdentity, found["model"], "the state of an audit")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise AuditError(f"-o {directory}: {marker} is damaged: give a new directory") from None
    if not owner.same_weights(model):
        raise AuditError(
            f"-o {directory} holds the audit of another model ({owner.name}, {owner.layers} layers): give {model.name} "
            "a directory of its own"
        )


def claim(directory: Path, model: ModelIdentity, version: str) -> float:
    """Mark a directory as this model's; returns when its audit was begun, in seconds since the epoch."""
    marker = directory / "state" / "audit.json"
    if marker.exists():
        return float(read_json(marker, "the audit's state").get("began", 0.0))
    began = time.time()
    content = {"schema": STATE_SCHEMA, "model": to_json(model), "version": version, "began": began}
    write_text(marker, json.dumps(content, indent=2) + "\n", directory)
    return began


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold a directory; the system gives it free when this process ends, however it ends.

    Raises:
        AuditError: another process holds it.
        OutputError: it cannot be written to.
    """
    path = directory / "state" / "lock"
    with writing(directory):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+", encoding="ascii")
    with handle:
        if not _take(handle):
            handle.seek(0)
            who = handle.read().strip() or "another process"
            raise AuditError(f"{directory}: {who} is at work on this audit: wait for it, or give another directory")
        handle.seek(0)
        handle.truncate()
        handle.write(f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')},")
        handle.flush()
        yield


def _take(handle: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            handle.seek(1 << 20)  # beyond the text, which others must be able to read
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_text(path: Path, text: str, directory: Path) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: the disk is full, or it cannot be written.
    """
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}"[:200])
    with writing(directory):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turns failures to write into one line that says how to go on.

    Raises:
        OutputError: as said.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(
                f"no space left for {directory}: make room and give the same command again, it goes on where it was"
            ) from error
        raise OutputError(f"{directory} cannot be written: {error.strerror or error}") from error
