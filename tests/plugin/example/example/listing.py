"""An export form: the names of the tensors, a line each."""

from __future__ import annotations

from pathlib import Path

from gatenorm.exports.registry import Export
from gatenorm.families import Layout
from gatenorm.files import write_text
from gatenorm.progress import Progress
from gatenorm.records import Written


def obstacles(layout: Layout) -> list[str]:
    """Nothing stands against it."""
    return []


def remarks(layout: Layout) -> list[str]:
    """What is worth knowing."""
    return ["no engine serves this"]


def write(layout: Layout, out: Path, *, dtype: str, progress: Progress | None) -> Written:
    """Write the file."""
    text = "".join(f"{name}\n" for name in layout.checkpoint.specs)
    write_text(out, text)
    return Written(out=str(out), bytes=len(text), notes=tuple(remarks(layout)))


EXPORT = Export(
    summary="a list of tensor names", engines=("none",), dtypes=("auto",), is_file=True, module="example.listing"
)
