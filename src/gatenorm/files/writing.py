"""Files and directories that appear whole or not at all, and locks."""

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from gatenorm.errors import GatenormError, OutputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What a killed process leaves behind begins so; see remove_partials.
_PARTIAL = ".partial-"
# Characters that mkdtemp adds, and seconds in which a new directory gets its lock.
_RANDOM, _BEING_MADE = 8, 60


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
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        if _is_special(path):
            with tempfile.TemporaryDirectory(prefix="gatenorm-") as folder:
                temporary = Path(folder) / path.name
                yield temporary
                # Opened only now: that waits for a FIFO's reader.
                with temporary.open("rb") as source, os.fdopen(os.open(path, os.O_WRONLY), "wb") as target:
                    shutil.copyfileobj(source, target)
            return
        target_path = _target(path)
        # The suffix is kept: plotting libraries choose the format by it.
        ending = f"-{target_path.stem[:60]}{path.suffix}"
        _remove_old(target_path.parent, f"{_PARTIAL}*{escape(ending)}")
        temporary = target_path.with_name(f"{_PARTIAL}{os.getpid()}{ending}")
        try:
            yield temporary
            temporary.replace(target_path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


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
    with _partial_directory(out, needed) as temporary:
        yield temporary / out.name
        (temporary / out.name).rename(out)


@contextmanager
def new_directory(out: Path, needed: int = 0) -> Iterator[Path]:
    """A temporary directory that becomes ``out`` when the block succeeds and is deleted when it fails.

    Args:
        needed: bytes that must be free on the disk.

    Raises:
        OutputError: ``out`` is taken, the disk lacks space, or writing fails.
    """
    check_new_directory(out)
    with _partial_directory(out, needed) as temporary:
        yield temporary
        temporary.rename(out)


@contextmanager
def new_output(out: Path) -> Iterator[Path]:
    """A path for a file or a directory, which becomes ``out`` when the block succeeds and is deleted when it fails.

    Raises:
        OutputError: writing fails.
    """
    with _partial_directory(out, 0) as temporary:
        yield temporary / out.name
        (temporary / out.name).rename(out)


@contextmanager
def scratch_directory(out: Path, needed: int = 0) -> Iterator[Path]:
    """A temporary directory beside ``out`` that is deleted at the end, or by the next one of that name.

    Args:
        needed: bytes that must be free on the disk.

    Raises:
        OutputError: the disk lacks space, or writing fails.
    """
    with _partial_directory(out, needed) as temporary:
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
def locked(path: Path, busy: Callable[[str], GatenormError]) -> Iterator[None]:
    """Hold the lock file ``path``; the system releases it when this process ends, however it ends.

    Args:
        busy: makes the error for when another process holds it, from a description of that process.

    Raises:
        GatenormError: another process holds it.
        OutputError: the file cannot be written.
    """
    from filelock import FileLock, Timeout

    holder = path.with_name(f"{path.name}-holder")  # a file of its own: opening a lock truncates it
    lock = FileLock(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with suppress(OSError):
                raise busy(holder.read_text(encoding="utf-8")) from None
            raise busy("another process") from None
    try:
        write_text(holder, f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')},")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def _partial_directory(out: Path, needed: int) -> Iterator[Path]:
    """A temporary directory beside ``out``, deleted at the end unless it was renamed."""
    temporary, held, done = None, None, False
    made = [parent for parent in out.parents if not parent.exists()]
    try:
        with write_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(out.parent).free
            if free < needed:
                what = f"{out} needs {needed:,} bytes, {free:,} are free there"
                raise OutputError("disk-full", what, hint="free space or write elsewhere")
            _remove_abandoned(out)
            temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}{_PARTIAL}", dir=out.parent))
            held = _hold(temporary)
            # mkdtemp keeps others out; a finished model is as readable as anything else that the user writes.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o777 & ~umask)
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


def _remove_old(folder: Path, pattern: str) -> None:
    """Delete what killed processes left half written, of files: what nobody has written to for a while."""
    for path in folder.glob(pattern):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _BEING_MADE:
                path.unlink()


def _remove_abandoned(out: Path) -> None:
    """Delete what killed processes left half written of ``out``: what nobody holds, and is no longer being made."""
    for path in out.parent.glob(f".{escape(out.name)}{_PARTIAL}{'?' * _RANDOM}"):
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
