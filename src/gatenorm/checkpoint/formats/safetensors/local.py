"""The files of a checkpoint in a directory."""

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint.companions import TEMPLATES, is_companion
from gatenorm.errors import CheckpointError
from gatenorm.files import SMALL, open_regular, read_small
from gatenorm.progress import Progress
from gatenorm.results.hashes import file_sha256

# What tells whether a file is still the same: device, inode, size, time of change.
_Identity = tuple[int, int, int, int]


class LocalFiles:
    """Files in ``directory``, mapped when they are first computed with.

    One rule holds for every file: it is a regular one that lies in the directory, or in the blob store of the hub's
    cache, into which the links of a snapshot lead. And it stays the same for as long as it is read.

    Raises:
        CheckpointError: by all methods, where a file leads elsewhere, has changed, or cannot be read.
    """

    remote: ClassVar[bool] = False

    def __init__(self, directory: Path):
        self.directory = directory
        self._root = directory.resolve()
        self._maps: dict[str, mmap.mmap] = {}
        self._seen: dict[str, _Identity] = {}

    def has(self, name: str) -> bool:
        try:
            return (self.directory / name).exists()
        except (OSError, ValueError):  # a name that is too long, or holds what no file name can
            return False

    def is_own(self, name: str) -> bool:
        """Whether a file exists and belongs to the checkpoint: a link that leads elsewhere must not be followed."""
        path = self.directory / name
        try:
            target = path.resolve()
            return path.is_file() and (target.is_relative_to(self._root) or self._is_blob(target))
        except (OSError, RuntimeError, ValueError):
            return False

    def path(self, name: str) -> Path:
        """Where a file lies."""
        path = self.directory / name
        if path.is_file() and not self.is_own(name):
            problem = f"{path} is a link out of the checkpoint, to {path.resolve()}"
            expected = "files in the directory itself"
            raise CheckpointError("file-elsewhere", problem, expected=expected, hint="put a copy in the link's place")
        return path

    def names(self) -> list[str]:
        """All companions, those that lead elsewhere among them."""
        paths = [*self.directory.iterdir(), *self.directory.glob(f"{TEMPLATES}/*")]
        there = {path.relative_to(self.directory).as_posix(): path for path in paths if not path.is_dir()}
        found = sorted(name for name, path in there.items() if is_companion(name) and path.exists())
        special = next((there[name] for name in found if not there[name].is_file()), None)
        if special is not None:  # other libraries would open it
            raise _unreadable(special, "it is no regular file")
        return found

    def others(self) -> list[str]:
        """Everything at the top that is neither a companion nor hidden."""
        names = (path.name for path in self.directory.iterdir() if path.name not in (TEMPLATES, "__pycache__"))
        return sorted(name for name in names if not is_companion(name) and name[0] != ".")

    def size(self, name: str) -> int:
        with self._open(name) as file:
            return os.fstat(file.fileno()).st_size

    def read(self, name: str, begin: int, length: int) -> bytes:
        with self._open(name) as file:
            return _read_at(file, begin, length)

    def content(self, name: str, most: int = SMALL) -> bytes:
        """The whole of a small file."""
        try:
            content = read_small(self.path(name), most)
        except OSError as error:
            raise _unreadable(self.directory / name, error.strerror) from None
        self.note(name)
        return content

    def view(self, name: str, begin: int, length: int) -> memoryview:
        with self._open(name) as file:  # a file that was cut short since it was mapped would end the process
            if name not in self._maps:
                self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        mapped = self._maps[name]
        # From a disk, page faults alone would fetch it in small steps.
        start = begin - begin % mmap.PAGESIZE
        with suppress(OSError, AttributeError):  # advice, which not every system takes
            mapped.madvise(mmap.MADV_WILLNEED, start, begin - start + length)
        return memoryview(mapped)[begin : begin + length]

    def loaded(self, name: str, begin: int, length: int) -> npt.NDArray[np.uint8]:
        with self._open(name) as file:
            return np.fromfile(file, np.uint8, count=length, offset=begin)

    def note(self, name: str) -> None:
        """From now on the file must stay what it is."""
        self._open(name).close()

    def check_unchanged(self) -> None:
        """Make sure that every file is still what it was when it was first opened, or noted."""
        for name in self._seen:
            self._open(name).close()

    def sha256(self, name: str, progress: Progress | None, most: int | None = None) -> str:
        """The hash of a file; of one of more than ``most`` bytes, of its size and a sample."""
        path = self.directory / name
        if self.is_own(name):
            self.note(name)
        size = path.stat().st_size
        if most is None or size <= most:
            return file_sha256(path, progress)
        with open_regular(path) as file:
            return hashlib.sha256(b"".join((str(size).encode(), *_sample(partial(_read_at, file), size)))).hexdigest()

    def sample_sha256(self, names: list[str]) -> str:
        """16 kilobytes spread evenly over every file: fine-tunes of one model differ in them."""
        digest = hashlib.sha256()
        for name in names:
            for part in _sample(partial(self.read, name), self.size(name)):
                digest.update(part)
        return digest.hexdigest()

    def _open(self, name: str) -> BinaryIO:
        try:
            file = open_regular(self.path(name))
        except OSError as error:
            raise _unreadable(self.directory / name, error.strerror) from None
        found = os.fstat(file.fileno())
        now = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if self._seen.setdefault(name, now) != now:
            file.close()
            raise CheckpointError(
                "file-changed", f"{self.directory / name} was changed while it was read", hint="run it again"
            )
        return file

    def _is_blob(self, target: Path) -> bool:
        """Whether a file lies in the blob store of the hub's cache: the one beside a snapshot, or of any model.

        Downloads to a directory of one's own used to link into the latter.
        """
        home = target.parent
        beside = self._root.parent.name == "snapshots" and home == self._root.parent.parent / "blobs"
        return beside or (home.name == "blobs" and home.parent.name.startswith("models--"))


def _unreadable(path: Path, why: str | None) -> CheckpointError:
    return CheckpointError("file-unreadable", f"{path} cannot be read: {why}")


def _sample(read: Callable[[int, int], bytes], size: int) -> Iterator[bytes]:
    for part in range(16):
        yield read(size * (2 * part + 1) // 32, 1024)


def _read_at(file: BinaryIO, begin: int, length: int) -> bytes:
    file.seek(begin)
    return file.read(length)
