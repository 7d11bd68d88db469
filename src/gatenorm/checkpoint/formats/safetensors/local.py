"""The files of a checkpoint in a directory."""

from __future__ import annotations

import hashlib
import mmap
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gatenorm.errors import CheckpointError
from gatenorm.progress import Progress
from gatenorm.results.hashes import file_sha256


class LocalFiles:
    """Files in ``directory``, mapped when they are first computed with."""

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

    def read(self, name: str, begin: int, length: int) -> bytes:
        try:
            with (self.directory / name).open("rb") as handle:
                handle.seek(begin)
                return handle.read(length)
        except OSError as error:
            raise CheckpointError(
                "file-unreadable", f"{self.directory / name} cannot be read: {error.strerror}"
            ) from None

    def view(self, name: str, begin: int, length: int, ahead: bool) -> memoryview:
        if name not in self._maps:
            with (self.directory / name).open("rb") as handle:
                self._maps[name] = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        mapped = self._maps[name]
        if ahead:
            # From a disk, page faults alone would fetch it in small steps.
            start = begin - begin % mmap.PAGESIZE
            with suppress(OSError, AttributeError):  # advice, which not every system takes
                mapped.madvise(mmap.MADV_WILLNEED, start, begin - start + length)
        return memoryview(mapped)[begin : begin + length]

    def loaded(self, name: str, begin: int, length: int) -> npt.NDArray[np.uint8]:
        return np.fromfile(self.directory / name, np.uint8, count=length, offset=begin)

    def sha256(self, name: str, progress: Progress | None) -> str:
        return file_sha256(self.directory / name, progress)

    def sample_sha256(self, names: list[str]) -> str:
        """16 kilobytes spread evenly over every file: fine-tunes of one model differ in them."""
        digest = hashlib.sha256()
        for name in names:
            size = self.size(name)
            for part in range(16):
                digest.update(self.read(name, size * (2 * part + 1) // 32, 1024))
        return digest.hexdigest()
