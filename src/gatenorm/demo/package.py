"""The model that comes with gatenorm: where it lies, whether it is whole, and how it is unpacked."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from gatenorm.errors import CheckpointError
from gatenorm.files import new_directory

NAME = "demo"
CHECKSUMS = "SHA256SUMS"
# Records and tables name a model by its directory.
_DIRECTORY = Path(__file__).resolve().parent / "model" / NAME


def model_directory() -> Path:
    """The directory of the built-in model, after its files have been compared with their checksums.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    check(_DIRECTORY)
    return _DIRECTORY


def speaks_its_language(directory: Path) -> bool:
    """Whether a checkpoint has the built-in model's tokenizer: that model itself, or one pruned or trained from it."""
    own, other = _DIRECTORY / "tokenizer.json", directory / "tokenizer.json"
    return own.is_file() and other.is_file() and own.read_bytes() == other.read_bytes()


def write(out: Path) -> Path:
    """Unpack the built-in model as the new directory ``out``, whole or not at all.

    Raises:
        CheckpointError: the installed files are damaged.
        OutputError: ``out`` is not empty or cannot be written.
    """
    source = model_directory()
    files = [path for path in sorted(source.iterdir()) if path.is_file()]
    with new_directory(out, sum(path.stat().st_size for path in files)) as temporary:
        for path in files:
            shutil.copyfile(path, temporary / path.name)
    return out


def check(directory: Path) -> None:
    """Compare every file that ``SHA256SUMS`` names with its checksum.

    Raises:
        CheckpointError: one line that names the first file that differs.
    """
    again = "install gatenorm again (pip install --force-reinstall gatenorm)"
    try:
        lines = (directory / CHECKSUMS).read_text(encoding="ascii").splitlines()
        expected = {name: checksum for checksum, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError):
        raise CheckpointError(f"the built-in model has no readable {CHECKSUMS} in {directory}: {again}") from None
    if not expected:
        raise CheckpointError(f"the built-in model's {CHECKSUMS} in {directory} is empty: {again}")
    for name, checksum in expected.items():
        path = directory / name
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            raise CheckpointError(f"the built-in model lacks {path}: {again}") from None
        if found != checksum:
            raise CheckpointError(
                f"the built-in model is damaged: {path} has sha256 {found[:16]}, expected {checksum[:16]}: {again}"
            )


def seal(directory: Path) -> None:
    """Write ``SHA256SUMS`` over all files of a model directory, in the form that ``sha256sum -c`` reads."""
    files = [p for p in sorted(directory.iterdir()) if p.is_file() and p.name != CHECKSUMS]
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files]
    (directory / CHECKSUMS).write_text("".join(lines), encoding="ascii")
