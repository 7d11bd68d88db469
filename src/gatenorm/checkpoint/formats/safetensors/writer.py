"""Writing safetensors files out of parts of others."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from gatenorm.checkpoint.companions import INDEX
from gatenorm.checkpoint.formats.safetensors.header import write_header
from gatenorm.checkpoint.parts import NewTensor, write_all, write_parts
from gatenorm.progress import Progress


@dataclass(frozen=True)
class NewFile:
    """A safetensors file to write."""

    name: str
    tensors: tuple[NewTensor, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def header(self) -> bytes:
        return write_header(self.tensors, self.metadata)

    @property
    def size(self) -> int:
        return len(self.header) + sum(tensor.nbytes for tensor in self.tensors)

    def write(self, directory: Path) -> Iterator[int]:
        """Write it into ``directory``; yields the number of bytes after every step."""
        with (directory / self.name).open("wb", buffering=0) as file:
            yield write_all(file.fileno(), self.header)
            yield from write_parts((part for tensor in self.tensors for part in tensor.parts), file.fileno())


@dataclass(frozen=True)
class NewFiles:
    """Safetensors files to write, with an index where ``index_metadata`` says what it holds besides sizes."""

    files: tuple[NewFile, ...]
    index_metadata: Mapping[str, object] | None = None

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def index(self) -> dict[str, object]:
        """The content of ``model.safetensors.index.json``."""
        tensors = sorted(
            ((tensor, file.name) for file in self.files for tensor in file.tensors), key=lambda t: t[0].name
        )
        return {
            "metadata": {**(self.index_metadata or {}), "total_size": sum(tensor.nbytes for tensor, _ in tensors)},
            "weight_map": {tensor.name: name for tensor, name in tensors},
        }

    def write(self, directory: Path, progress: Progress | None = None) -> None:
        total, done = self.size, 0
        for file in self.files:
            for written in file.write(directory):
                done += written
                if progress:
                    progress(done, total)
        if self.index_metadata is not None:
            text = json.dumps(self.index, indent=2, ensure_ascii=False) + "\n"
            (directory / INDEX).write_text(text, encoding="utf-8")
