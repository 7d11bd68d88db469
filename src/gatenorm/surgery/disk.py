"""Surgery on disk: byte ranges are copied, no tensor is decoded, memory stays flat however large the model is."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gatenorm.checkpoint import Checkpoint
from gatenorm.checkpoint.checkpoint import INDEX
from gatenorm.checkpoint.writing import Copied, NewFile, NewTensor, index_of, write_files
from gatenorm.errors import OutputError
from gatenorm.families import Layout
from gatenorm.records import Plan
from gatenorm.surgery.card import model_card
from gatenorm.surgery.config import MODELLING_FILE, belongs, pruned_config, tokenizer_config
from gatenorm.surgery.planning import check_plan

PLAN_FILE = "gatenorm.json"
# What a training after pruning left behind: no longer true of a checkpoint that is pruned once more.
RECOVERY_FILE = "recovery.json"
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
# What others found out about the source's very weights, which is not true of these.
_OF_THE_SOURCE = {"SHA256SUMS", "sha256sums.txt", "measured.json", "all_results.json", "eval_results.json"}
_WRITTEN = {"config.json", "README.md", PLAN_FILE, RECOVERY_FILE, MODELLING_FILE.name}


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
    gone = layout.removed_by(plan.removal)
    checkpoint = layout.checkpoint
    files = [f for f in (_remaining(checkpoint, name, gone) for name in checkpoint.headers) if f.tensors]
    total = sum(f.size for f in files)
    with whole_directory(out, total) as temporary:
        write_files(files, temporary, progress)
        if checkpoint.index is not None:
            write_json(temporary / INDEX, index_of(files, index_metadata(checkpoint)))
        carried, left_out = carry_over(checkpoint.directory, temporary, _WRITTEN)
        write_json(temporary / "config.json", config)
        if tokenizer is not None:
            write_json(temporary / "tokenizer_config.json", tokenizer)
        write_json(temporary / PLAN_FILE, plan.to_json())
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


def check_apart(out: Path, source: Path) -> None:
    """Refuse an output inside the model that it is made from: whoever copies or uploads that would take both.

    Raises:
        OutputError: ``out`` lies in ``source``.
    """
    if source.resolve() in out.resolve().parents:
        raise OutputError(f"{out} lies inside the model {source}: give a directory beside it")


def check_file(out: Path) -> None:
    """Refuse an output file that would replace something.

    Raises:
        OutputError: something is there already.
    """
    if out.is_symlink() or out.exists():
        raise OutputError(f"{out} exists: give the name of a file that does not exist yet")


@contextmanager
def whole_file(out: Path, needed: int) -> Iterator[Path]:
    """The path of a temporary file beside ``out`` that takes its name when the block ends well, and vanishes otherwise.

    Raises:
        OutputError: ``out`` is taken, there are fewer than ``needed`` bytes free, or writing fails.
    """
    check_file(out)
    with _written_beside(out, needed) as temporary:
        yield temporary / out.name
        (temporary / out.name).rename(out)


@contextmanager
def whole_directory(out: Path, needed: int) -> Iterator[Path]:
    """A temporary directory beside ``out`` that takes its name when the block ends well, and vanishes otherwise.

    Raises:
        OutputError: ``out`` is taken, there are fewer than ``needed`` bytes free, or writing fails.
    """
    check_output(out)
    with _written_beside(out, needed) as temporary:
        yield temporary
        temporary.rename(out)


@contextmanager
def _written_beside(out: Path, needed: int) -> Iterator[Path]:
    """A temporary directory beside ``out``, gone at the end unless it was renamed; failures to write are explained."""
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


def _remaining(checkpoint: Checkpoint, name: str, gone: tuple[str, ...]) -> NewFile:
    """The weight file of that name without the tensors whose names begin with one of ``gone``."""
    header, path = checkpoint.headers[name], checkpoint.directory / name
    kept = (t for t in header.tensors if not t.name.startswith(gone))
    tensors = (NewTensor(t.name, t.dtype, t.shape, (Copied(path, t.begin, t.end),)) for t in kept)
    return NewFile(name, tuple(tensors), header.metadata)


def index_metadata(checkpoint: Checkpoint) -> dict[str, object]:
    """What the source's index says besides sizes, which are others once tensors are gone."""
    given = (checkpoint.index or {}).get("metadata")
    sizes = ("total_size", "total_parameters")
    return {key: value for key, value in given.items() if key not in sizes} if isinstance(given, dict) else {}


def carry_over(source: Path, target: Path, written: Collection[str]) -> tuple[list[str], list[str]]:
    """Copy what is neither weights, nor about them, nor ``written`` anew; returns the names, and those of links that
    lead elsewhere.
    """
    carried: list[str] = []
    left_out: list[str] = []
    for path in sorted(source.iterdir()):
        name = path.name
        if name.startswith(".") or name in written or name in _OF_THE_SOURCE or name.endswith(_OTHER_WEIGHTS):
            continue
        if not path.is_file():
            continue
        if not belongs(path):
            left_out.append(name)
            continue
        shutil.copyfile(path, target / name)
        carried.append(name)
    return carried, left_out


def write_json(path: Path, data: object) -> None:
    """Write ``data`` as JSON for people."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
