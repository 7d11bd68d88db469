"""Hashes of code and of large files: what a result rests on is known by content, not by version or path."""

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path

from gatenorm.errors import OutputError
from gatenorm.files import write_text
from gatenorm.progress import Progress
from gatenorm.results.location import cache_directory

_CHUNK = 16 << 20
# Code, and the data that it reads.
_READ = (".py", ".json", ".jsonl")
# What only asks for, shows or judges figures. Whatever is not named here counts, so that nothing is forgotten.
_NO_FIGURES = ("cli/", "report/", "findings/", "audit/judge/", "audit/output/", "study/")


def digest(content: object) -> str:
    """The sha256 of plain JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True, default=list).encode()).hexdigest()


@cache
def code_sha256() -> str:
    """The hash of all of this package that can change a figure."""
    package = Path(__file__).resolve().parents[1]
    whole = hashlib.sha256()
    models = {path.parent for path in package.rglob("*.safetensors")}  # hashed as any other model
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package).as_posix()
        if path.suffix in _READ and not name.startswith(_NO_FIGURES) and path.parent not in models:
            whole.update(f"{name} ".encode() + path.read_bytes())
    return whole.hexdigest()


def file_sha256(path: Path, progress: Progress | None = None) -> str:
    """The hash of a file, remembered between runs for as long as its size and time of change stay the same.

    Args:
        progress: called with (bytes read, bytes in all).
    """
    status = path.resolve().stat()
    memo = cache_directory() / "hashes" / digest([str(path.resolve()), status.st_size, status.st_mtime_ns])
    with suppress(OSError, UnicodeDecodeError):
        kept = memo.read_text(encoding="ascii")
        if len(kept) == 64:
            return kept
    whole, read = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            whole.update(chunk)
            read += len(chunk)
            if progress:
                progress(read, status.st_size)
    after = path.resolve().stat()
    if (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns):  # else it was another file by then
        with suppress(OutputError):  # a cache that cannot be written to costs time, nothing else
            write_text(memo, whole.hexdigest(), parents=True)
    return whole.hexdigest()
