"""Surgery on disk: byte ranges are copied, no tensor is decoded, memory stays flat however large the model is."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gatenorm.checkpoint import Checkpoint, TensorInfo, write_header
from gatenorm.checkpoint.checkpoint import INDEX
from gatenorm.errors import OutputError
from gatenorm.families import Layout
from gatenorm.records import Plan
from gatenorm.surgery.card import model_card
from gatenorm.surgery.config import MODELLING_FILE, belongs, pruned_config, tokenizer_config
from gatenorm.surgery.planning import check_plan

PLAN_FILE = "gatenorm.json"
# Other copies of the weights, which pruning would make untrue: left where they are.
_OTHER_WEIGHTS = tuple(
    "." + ending
    for ending in (
        "safetensors",
        "safetensors.index.json",
        "bin",
        "bin.index.json",
        "pt",
        "pth",
        "ckpt",
        "gguf",
        "onnx",
        "onnx_data",
        "msgpack",
        "h5",
        "ot",
        "tflite",
        "npz",
    )
)
_WRITTEN = {"config.json", "README.md", PLAN_FILE, MODELLING_FILE.name}
# Large enough to keep system calls few, small enough for a progress bar that moves.
_CHUNK = 64 << 20


@dataclass(frozen=True)
class _File:
    """One weight file to write: its header and the byte ranges of the source that follow it."""

    name: str
    header: bytes
    ranges: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        return len(self.header) + sum(end - begin for begin, end in self.ranges)


@dataclass(frozen=True)
class Written:
    """What was written: bytes of weights, and the names of links that were left out since they lead elsewhere."""

    nbytes: int
    left_out: tuple[str, ...]


def write_pruned(layout: Layout, plan: Plan, out: Path, progress: Callable[[int, int], None] | None = None) -> Written:
    """Write the checkpoint that remains when ``plan`` has been carried out, as the new directory ``out``.

    The directory appears whole or not at all: it is written under a temporary name beside it and renamed at the end.
    Tokenizer, generation settings, licence and other small files are carried over; other copies of the weights are not.

    Args:
        progress: called with (bytes written, bytes in all).

    Raises:
        OutputError: ``out`` exists and is not empty, cannot be written, or the disk is full.
        PlanError: this model must not be pruned, or the plan is not for it.
    """
    check_plan(layout, plan)
    config, tokenizer = pruned_config(layout, plan), tokenizer_config(layout)
    gone = tuple(p for layer in plan.new for p in layout.removed_with(layer))
    files = [f for f in (_plan_file(layout.checkpoint, name, gone) for name in layout.checkpoint.headers) if f]
    total = sum(f.size for f in files)
    with whole_directory(out, total) as temporary:
        done = 0
        for file in files:
            source = layout.checkpoint.directory / file.name
            for written in _write(source, temporary / file.name, file):
                done += written
                if progress:
                    progress(done, total)
        if layout.checkpoint.index is not None:
            _write_json(temporary / INDEX, _index(layout.checkpoint, gone))
        carried, left_out = _carry_over(layout.checkpoint.directory, temporary)
        _write_json(temporary / "config.json", config)
        if tokenizer is not None:
            _write_json(temporary / "tokenizer_config.json", tokenizer)
        _write_json(temporary / PLAN_FILE, plan.to_json())
        shutil.copyfile(MODELLING_FILE, temporary / MODELLING_FILE.name)
        (temporary / "README.md").write_text(model_card(layout, plan, carried), encoding="utf-8")
    return Written(total, tuple(left_out))


def check_output(out: Path) -> None:
    """Refuse an output that would mix with something else.

    Raises:
        OutputError: ``out`` is a file, a link, a mount point, or a directory that is not empty.
    """
    if out.is_symlink() or out.is_mount():
        what = "is a link" if out.is_symlink() else "is a mount point"
        raise OutputError(f"{out} {what}, which cannot be replaced as a whole: give a directory inside it or elsewhere")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is a file"
        raise OutputError(f"{out} {what}: give a directory that does not exist yet")


@contextmanager
def whole_directory(out: Path, needed: int) -> Iterator[Path]:
    """A temporary directory beside ``out`` that takes its name when the block ends well, and vanishes otherwise.

    Raises:
        OutputError: ``out`` is taken, there are fewer than ``needed`` bytes free, or writing fails.
    """
    check_output(out)
    temporary, done = None, False
    made = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out.parent).free
        if free < needed:
            raise OutputError(f"{out} needs {needed:,} bytes, {free:,} are free there: make room or write elsewhere")
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
        # mkdtemp keeps others out; a finished model is as readable as anything else that the user writes.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        yield temporary
        temporary.rename(out)
        done = True
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = "the disk is full" if full else (error.strerror or str(error))
        raise OutputError(f"{out} could not be written: {what}; nothing was left behind") from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
        for parent in made if not done else ():
            with suppress(OSError):
                parent.rmdir()


def _plan_file(checkpoint: Checkpoint, name: str, gone: tuple[str, ...]) -> _File | None:
    header = checkpoint.headers[name]
    kept = [t for t in header.tensors if not t.name.startswith(gone)]
    if not kept:
        return None
    placed: list[tuple[TensorInfo, int]] = []
    ranges: list[tuple[int, int]] = []
    position = 0
    for tensor in kept:
        placed.append((tensor, position))
        position += tensor.nbytes
        if ranges and ranges[-1][1] == tensor.begin:
            ranges[-1] = (ranges[-1][0], tensor.end)
        else:
            ranges.append((tensor.begin, tensor.end))
    return _File(name, write_header(placed, header.metadata), tuple(ranges))


def _index(checkpoint: Checkpoint, gone: tuple[str, ...]) -> dict[str, object]:
    kept = [t for t in checkpoint if not t.name.startswith(gone)]
    old = checkpoint.index or {}
    metadata = dict(old["metadata"]) if isinstance(old.get("metadata"), dict) else {}
    metadata.pop("total_parameters", None)
    metadata["total_size"] = sum(t.nbytes for t in kept)
    return {"metadata": metadata, "weight_map": {t.name: t.file for t in sorted(kept, key=lambda t: t.name)}}


def _write(source: Path, target: Path, file: _File) -> Iterator[int]:
    with source.open("rb") as reader, target.open("wb") as writer:
        writer.write(file.header)
        writer.flush()
        yield len(file.header)
        for begin, end in file.ranges:
            yield from _copy_range(reader.fileno(), writer.fileno(), begin, end)


def _copy_range(source: int, target: int, begin: int, end: int) -> Iterator[int]:
    """Append bytes ``begin`` to ``end`` of one open file to another, inside the kernel where it can."""
    in_kernel = hasattr(os, "copy_file_range")
    while begin < end:
        count = min(_CHUNK, end - begin)
        if in_kernel:
            try:
                written = os.copy_file_range(source, target, count, offset_src=begin)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
                    raise
                in_kernel = False
                continue
        else:
            written = os.write(target, os.pread(source, min(count, 8 << 20), begin))
        if written == 0:
            raise OSError(errno.EIO, "the source became shorter while it was read")
        begin += written
        yield written


def _carry_over(source: Path, target: Path) -> tuple[list[str], list[str]]:
    """Copy what is neither weights nor rewritten; returns the names, and those of links that lead elsewhere."""
    carried: list[str] = []
    left_out: list[str] = []
    for path in sorted(source.iterdir()):
        name = path.name
        if name.startswith(".") or name in _WRITTEN or name.endswith(_OTHER_WEIGHTS) or not path.is_file():
            continue
        if not belongs(path):
            left_out.append(name)
            continue
        shutil.copyfile(path, target / name)
        carried.append(name)
    return carried, left_out


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
