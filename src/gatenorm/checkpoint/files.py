"""What a checkpoint asks of the place where its files lie, and the plainest such place: a directory."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from gatenorm.errors import CheckpointError


class Files(Protocol):
    """What a checkpoint asks of the place where it lies; ``directory`` holds at least its small files."""

    directory: Path

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def size(self, name: str) -> int:
        """Its length in bytes."""
        ...

    def read(self, name: str, offset: int, length: int) -> bytes:
        """A few bytes of it, to look at: headers, samples."""
        ...

    def view(self, name: str, offset: int, length: int, ahead: bool) -> memoryview:
        """A range of it, to compute with; ``ahead`` says that all of it will be."""
        ...

    def sample_sha256(self, sizes: Mapping[str, int]) -> str:
        """A hash of a few kilobytes out of these files, or nothing where that costs too much."""
        ...


class LocalFiles:
    """Files in a directory, mapped when they are first computed with."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._maps: dict[str, mmap.mmap] = {}

    def has(self, name: str) -> bool:
        try:
            return (self.directory / name).exists()
        except (OSError, ValueError):  # a name that is too long, or holds what no file name can
            return False

    def size(self, name: str) -> int:
        return (self.directory / name).stat().st_size

    def read(self, name: str, offset: int, length: int) -> bytes:
        try:
            with (self.directory / name).open("rb") as handle:
                handle.seek(offset)
                return handle.read(length)
        except OSError as error:
            raise CheckpointError(f"{self.directory / name} cannot be read: {error.strerror}") from None

    def view(self, name: str, offset: int, length: int, ahead: bool) -> memoryview:
        if name not in self._maps:
            with (self.directory / name).open("rb") as handle:
                self._maps[name] = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        mapped = self._maps[name]
        if ahead:
            # From a disk, page faults alone would fetch it in small steps.
            start = offset - offset % mmap.PAGESIZE
            with suppress(OSError, AttributeError):  # advice, and not every system takes it
                mapped.madvise(mmap.MADV_WILLNEED, start, offset - start + length)
        return memoryview(mapped)[offset : offset + length]

    def sample_sha256(self, sizes: Mapping[str, int]) -> str:
        """16 kilobytes spread evenly over every file: fine-tunes of one model differ in them."""
        digest = hashlib.sha256()
        for name, size in sizes.items():
            for part in range(16):
                digest.update(self.read(name, size * (2 * part + 1) // 32, 1024))
        return digest.hexdigest()


def read_object(files: Files, name: str, missing: str) -> dict[str, Any]:
    """The JSON object in one of the small files.

    Raises:
        CheckpointError: it is not there (``missing`` says so), or is no JSON object.
    """
    path = files.directory / name
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(missing) from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, a number of 5,000 digits
        raise CheckpointError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds {type(data).__name__}, expected a JSON object")
    return data
