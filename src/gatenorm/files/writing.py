"""Files and directories that appear whole or not at all."""

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from gatenorm.errors import GatenormError, OutputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What a killed process leaves behind begins so; see remove_partials.
_PARTIAL = ".partial-"
# Characters that mkdtemp adds, those of an output's name in front (so that no name gets too long), and seconds in which
# a new directory gets its lock.
_RANDOM, _NAMED, _BEING_MADE = 8, 50, 60


def can_be_written(path: Path) -> bool:
    """Whether a file can be written there: its folder exists and is writable, and it is no directory.

    What is neither file nor directory (a FIFO, a device) is written into, so it must be writable itself.
    """
    try:
        if _is_special(path):
            return os.access(path, os.W_OK)
        folder = _target(path).parent
        return bool(path.name) and not path.is_dir() and folder.is_dir() and os.access(folder, os.W_OK)
    except (OSError, ValueError, RuntimeError):  # a name that is too long, or a link to itself
        return False


@contextmanager
def replacing(path: Path, *, parents: bool = False) -> Iterator[Path]:
    """A temporary file that replaces ``path`` when the block succeeds and is deleted when it fails.

    A link is followed: the file is written where it leads. A FIFO or a device is written into, since renaming a file
    over it would take it away from other processes.

    Args:
        parents: create missing folders.

    Raises:
        OutputError: the disk is full, or the file cannot be written.
    """
    with write_errors(path):
        special = _is_special(path)
    if not special:
        with _partial_directory(path, parents=parents) as folder, _shown_as(path, folder / path.name) as temporary:
            yield temporary  # whose ending is the same: plotting libraries choose the format by it
            temporary.replace(_target(path))
        return
    with write_errors(path), tempfile.TemporaryDirectory(prefix="gatenorm-") as place:
        with _shown_as(path, Path(place) / path.name) as temporary:
            yield temporary
        # Opened only now: that waits for a FIFO's reader.
        with temporary.open("rb") as source, os.fdopen(os.open(path, os.O_WRONLY), "wb") as target:
            shutil.copyfileobj(source, target)


def write_bytes(path: Path, content: bytes, *, parents: bool = False) -> None:
    """Write a file whole or not at all, as :func:`replacing`."""
    with replacing(path, parents=parents) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str, *, parents: bool = False) -> None:
    """Write UTF-8 text as :func:`write_bytes`; bytes of file names that are no UTF-8 are written as ``?``."""
    write_bytes(path, text.encode("utf-8", errors="replace"), parents=parents)


def write_json(path: Path, data: Any, *, parents: bool = False) -> None:
    """Write ``data`` as indented JSON, as :func:`write_bytes`."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n", parents=parents)


def check_new_file(out: Path) -> None:
    """Raise OutputError for an output file that would replace something."""
    if out.is_symlink() or out.exists():
        raise OutputError("out-taken", "exists already", field="out", given=out, hint="give the name of a new file")


def check_new_directory(out: Path) -> None:
    """Raise OutputError for an output directory that would be mixed with something else: ``out`` is a file, a link, a
    mount point, or a directory that is not empty.
    """
    if out.is_symlink() or out.is_mount():
        what = f"is a {'link' if out.is_symlink() else 'mount point'}, which cannot be replaced as a whole"
        hint = "give a directory inside it or elsewhere"
        raise OutputError("out-irreplaceable", what, field="out", given=out, hint=hint)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is a file"
        raise OutputError("out-taken", what, field="out", given=out, hint="give a directory that does not exist yet")


def check_apart(out: Path, source: Path) -> None:
    """Raise OutputError for an output inside the model that it is made from: copying or uploading the model would
    include it.
    """
    if source.resolve() in out.resolve().parents:
        problem = f"lies inside the model {source}"
        raise OutputError("out-inside-model", problem, field="out", given=out, hint="write it beside the model")


@contextmanager
def new_file(out: Path, needed: int = 0) -> Iterator[Path]:
    """A temporary file that becomes ``out`` when the block succeeds and is deleted when it fails.

    Args:
        needed: bytes that must be free on the disk.

    Raises:
        OutputError: ``out`` exists, the disk lacks space, or writing fails.
    """
    check_new_file(out)
    with _partial_directory(out, needed) as folder, _shown_as(out, folder / out.name) as temporary:
        yield temporary
        temporary.rename(out)


@contextmanager
def new_directory(out: Path, needed: int = 0) -> Iterator[Path]:
    """A temporary directory that becomes ``out`` when the block succeeds and is deleted when it fails.

    Args:
        needed: bytes that must be free on the disk.

    Raises:
        OutputError: ``out`` is taken, the disk lacks space, or writing fails.
    """
    check_new_directory(out)
    with _partial_directory(out, needed) as folder, _shown_as(out, folder) as temporary:
        # mkdtemp keeps others out; a finished model is as readable as anything else that the user writes.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        yield temporary
        temporary.rename(out)


@contextmanager
def new_output(out: Path) -> Iterator[Path]:
    """A path for a file or a directory, which becomes ``out`` when the block succeeds and is deleted when it fails.

    Raises:
        OutputError: writing fails.
    """
    with _partial_directory(out) as folder, _shown_as(out, folder / out.name) as temporary:
        yield temporary
        temporary.rename(out)


@contextmanager
def scratch_copy(source: Path, name: Path, needed: int = 0) -> Iterator[Path]:
    """A path for a changed copy of ``source`` beside ``name``: deleted at the end, or by the next one of that name.

    Args:
        needed: bytes that must be free on the disk.

    Raises:
        OutputError: the disk lacks space, or writing fails.
    """
    with _partial_directory(name, needed) as folder, _shown_as(source, folder / source.name) as temporary:
        yield temporary


def remove_partials(directory: Path) -> None:
    """Delete what killed processes left half written in ``directory``."""
    for path in directory.glob(f".*{_PARTIAL[1:]}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


@contextmanager
def _partial_directory(out: Path, needed: int = 0, *, parents: bool = True) -> Iterator[Path]:
    """A temporary directory beside ``out``, or where a link leads; deleted at the end unless it was renamed."""
    temporary, held, done = None, None, False
    made: list[Path] = []
    try:
        with write_errors(out):
            home = _target(out).parent
            if parents:
                made = [folder for folder in (home, *home.parents) if not folder.exists()]
                home.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(home).free
            if free < needed:
                what = f"{out} needs {needed:,} bytes, {free:,} are free there"
                raise OutputError("disk-full", what, hint="free space or write elsewhere")
            prefix = f".{out.name[:_NAMED]}{_PARTIAL}"
            _remove_abandoned(home, prefix)
            temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=home))
            held = _hold(temporary)
            yield temporary
            done = True
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
        if held is not None:
            os.close(held)
        for parent in made if not done else ():
            with suppress(OSError):
                parent.rmdir()


@contextmanager
def _shown_as(out: Path, temporary: Path) -> Iterator[Path]:
    """Errors of the block name ``out``, which is there for the user to look at, wherever they name ``temporary``."""
    try:
        yield temporary
    except GatenormError as error:
        error.replace(str(temporary), str(out))
        raise


def _hold(directory: Path) -> int | None:
    """An open directory that is locked until it is closed or this process ends; ``None`` where that is not possible."""
    try:
        import fcntl

        descriptor = os.open(directory, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_abandoned(home: Path, prefix: str) -> None:
    """Delete what killed processes left half written under such names: what nobody holds, and is not being made."""
    for path in home.glob(f"{escape(prefix)}{'?' * _RANDOM}"):
        with suppress(OSError):
            if path.is_symlink() or time.time() - path.stat().st_mtime < _BEING_MADE:
                continue
            held = _hold(path)
            if held is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(held)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns failures of the file system in the block into one error.

    Raises:
        OutputError: ``path`` could not be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(
                "disk-full", f"{path} could not be written: the disk is full", hint="nothing was left behind"
            ) from error
        raise OutputError(
            "out-unwritable", f"{path} could not be written: {error.strerror or error}", hint="nothing was left behind"
        ) from error


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _target(path: Path) -> Path:
    """Where the file lies, or will: where a link leads, whether or not something exists there."""
    return path.resolve() if path.is_symlink() else path.absolute()
