"""The one door for small files that others wrote: regular files of bounded size, and JSON of bounded depth."""

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

# The most bytes of a file that is read whole: a configuration, an index, a record; and of a tokenizer.
SMALL = 16 << 20
LARGE = 64 << 20
# JSON that stays within these takes at most about ten times its limit of bytes, and nothing recursive chokes on it.
_BYTES_PER_VALUE = 16
_DEEPEST = 100


def open_regular(path: Path) -> BinaryIO:
    """An open file, which is a regular one: a FIFO would keep the reader waiting, a device has no end.

    Raises:
        OSError: it is something else, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    # Asked of what was opened: the name may lead elsewhere a moment later.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_small(path: Path, most: int = SMALL) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: it is larger or something else, or cannot be read.
    """
    with open_small(path, most) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)  # which takes as much memory as is asked for
        if len(content) > size:  # it grew, or lies in /proc, where nothing has a size
            content += file.read(most)
    if len(content) > most:
        raise _larger(path, most)
    return content


def open_small(path: Path, most: int) -> BinaryIO:
    """An open file, which is a regular one of at most ``most`` bytes.

    Raises:
        OSError: it is larger or something else, or cannot be read.
    """
    file = open_regular(path)
    if os.fstat(file.fileno()).st_size > most:
        file.close()
        raise _larger(path, most)
    return file


def _larger(path: Path, most: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most:,} bytes", str(path))


def parse_json(
    content: bytes, most: int = SMALL, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None
) -> Any:
    """Plain data out of JSON in UTF-8, whose values are at most ``most / 16`` and lie at most 100 deep.

    Args:
        pairs: makes an object of its pairs, or refuses them with a ValueError.

    Raises:
        ValueError: it is no such JSON, or holds half a surrogate pair, which could never be written again.
    """
    if content.count(b",") + content.count(b"[") + content.count(b"{") > most // _BYTES_PER_VALUE:
        raise ValueError(f"it holds more than {most // _BYTES_PER_VALUE:,} values")
    try:
        # Decoded here, since json.loads would guess UTF-16 and UTF-32 as well.
        data = json.loads(content.decode("utf-8"), object_pairs_hook=pairs)
        _check_depth(data, _DEEPEST)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if b"\\ud" in content or b"\\uD" in content:
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a surrogate pair, which is no text") from None
    return data


def _check_depth(data: Any, left: int) -> None:
    if left == 0:
        raise RecursionError
    for inner in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        if isinstance(inner, (dict, list)):
            _check_depth(inner, left - 1)
