"""Files that appear whole or not at all, at a place where something may stand already."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def can_be_written(path: Path) -> bool:
    """Whether a file can be placed there: its folder is there and writable, and it is no directory.

    What is neither file nor directory (a FIFO, a device) is written into, so that it must be writable itself.
    """
    try:
        if _is_special(path):
            return os.access(path, os.W_OK)
        folder = _home(path).parent
        return bool(path.name) and not path.is_dir() and folder.is_dir() and os.access(folder, os.W_OK)
    except (OSError, ValueError, RuntimeError):  # a name that is too long, or a link to itself
        return False


@contextmanager
def placed(path: Path) -> Iterator[Path]:
    """A temporary file to write; when the block ends well it takes the place of ``path``, otherwise it vanishes.

    A link is followed, since whoever made it wants the file there. A FIFO or a device is written into: renaming a file
    over it would take it away from everybody.

    Raises:
        OSError: as whatever the system says.
    """
    if _is_special(path):
        with tempfile.TemporaryDirectory(prefix="gatenorm-") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            # Opened only now: that waits for a FIFO's reader.
            with temporary.open("rb") as source, os.fdopen(os.open(path, os.O_WRONLY), "wb") as target:
                shutil.copyfileobj(source, target)
        return
    home = _home(path)
    # Its ending is kept: those who draw tell the format by it.
    temporary = home.with_name(f".partial-{os.getpid()}-{home.stem[:200]}{path.suffix}")
    try:
        yield temporary
        temporary.replace(home)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _home(path: Path) -> Path:
    """Where the file lies, or will: where a link leads, be something there or not."""
    return path.resolve() if path.is_symlink() else path.absolute()
