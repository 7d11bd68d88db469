"""Locks that one process at a time holds."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gatenorm.errors import GatenormError
from gatenorm.files.writing import write_errors, write_text


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
