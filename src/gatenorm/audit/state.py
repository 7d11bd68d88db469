"""The output directory as the audit's state: what was measured lies there, one whole file each.

audit.json, report.*   the result, written last
variants/NAME          the pruned checkpoints; exports/, recovered/ likewise
state/audit.json       whose directory this is
state/config.json      the configuration of the last run
state/made/*.json      what a variant, an export or a training was made of
state/measured/*.json  results of jobs, by the hash of all that they follow from
state/lock             held while an audit runs
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gatenorm.errors import AuditError, GatenormError, OutputError, RecordError
from gatenorm.files import locked, remove_partials, write_errors, write_json
from gatenorm.records import ModelIdentity, read_json, read_record, to_json
from gatenorm.records.serialization import Record, Value, from_json
from gatenorm.results import ResultStore

# The configuration of the last run, as --config reads it.
CONFIG_FILE = Path("state") / "config.json"
_MARKER = Path("state") / "audit.json"


class Owner(Record, frozen=True, tag="gatenorm/audit-state/1"):
    """Whose audit a directory holds; ``began`` in seconds since the epoch."""

    model: ModelIdentity
    version: str
    began: float = 0.0


class Origin(Value, frozen=True):
    """What a file or directory was made by: a whole ``job``, by its hash."""

    job: str


class State:
    """Results, and what variants were made of. Files appear whole or not at all."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.results = ResultStore(directory / "state" / "measured")

    def variant(self, name: str, folder: str = "variants") -> Path:
        """Where the checkpoint of that name lies, or will."""
        return self.directory / folder / name

    def keep_only(self, name: str, origin: Origin, *paths: Path) -> None:
        """Delete ``paths`` unless they were made, or half made, of just this; from now on they are to be.

        Raises:
            OutputError: the origin cannot be written.
        """
        made_of = self.directory / "state" / "made" / f"{name}.json"
        with suppress(RecordError):  # nothing readable says what was there
            if read_record(Origin, made_of, "the origin of a variant") == origin:
                return
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        write_json(made_of, to_json(origin), parents=True)

    def clear(self) -> None:
        """Delete what an audit that was killed left half done."""
        for folder in ("variants", "exports", "recovered", "state", "state/made", "state/measured"):
            remove_partials(self.directory / folder)


def check_directory(directory: Path, model: ModelIdentity) -> None:
    """Raise AuditError for a directory that is another model's, or no audit's at all."""

    def refused(code: str, problem: str, expected: str = "a new directory", hint: str = "") -> AuditError:
        return AuditError(code, problem, field="directory", given=directory, expected=expected, hint=hint)

    if directory.is_symlink() and not directory.exists():
        raise refused("link-broken", "is a broken link", "")
    if not directory.exists():
        return
    if not directory.is_dir():
        raise refused("not-a-directory", "is a file", "a directory")
    marker = directory / _MARKER
    if not marker.exists():
        if any(path.name != "state" for path in directory.iterdir()):
            raise refused("not-empty", "is not empty and holds no audit")
        return
    data = read_json(marker, "the audit's state")
    if data.get("schema") != Owner.__struct_config__.tag:
        raise refused("other-release", f"holds an audit of another release ({data.get('schema')})")
    try:
        owner = from_json(Owner, data, "the state of an audit").model
    except GatenormError:
        raise refused("state-damaged", f"cannot be resumed: {marker} is damaged") from None
    if not owner.same_weights(model):
        problem = f"holds the audit of another model ({owner.name}, {owner.layers} layers)"
        raise refused("other-model", problem, "", f"give {model.name} a directory of its own")


def claim(directory: Path, model: ModelIdentity, version: str) -> float:
    """Mark a directory as this model's; returns when its audit began, in seconds since the epoch."""
    marker = directory / _MARKER
    if marker.exists():
        return read_record(Owner, marker, "the audit's state").began
    owner = Owner(model=model, version=version, began=time.time())
    write_json(marker, to_json(owner), parents=True)
    return owner.began


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold a directory; the system frees it when this process ends, however it ends.

    Raises:
        AuditError: another process holds it.
        OutputError: it cannot be written to.
    """

    def busy(holder: str) -> AuditError:
        hint = "wait for it, or give another directory"
        return AuditError("locked", f"is in use by {holder}", field="directory", given=directory, hint=hint)

    with locked(directory / "state" / "lock", busy):
        yield


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Failures to write, with what to do where the disk is full."""
    try:
        with write_errors(directory):
            yield
    except OutputError as error:
        if error.code == "disk-full":
            error.hint = f"free space for {directory} and run the same command again: it continues where it stopped"
        raise
