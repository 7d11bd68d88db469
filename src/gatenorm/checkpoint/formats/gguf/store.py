"""The tensors of a GGUF file, under the names that the file gives them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gatenorm.checkpoint.dtypes import STORAGE_TYPES, Bits, Float32
from gatenorm.checkpoint.formats.gguf.header import read_header
from gatenorm.checkpoint.parts import ByteRange
from gatenorm.checkpoint.store import NewWeights, Replacement, StoredTensor, TensorStore
from gatenorm.errors import CheckpointError
from gatenorm.progress import Progress
from gatenorm.results.hashes import file_sha256


class GgufStore(TensorStore):
    """A GGUF file. Types of less than 16 bits are taken apart by the gguf package, in NumPy.

    ``metadata`` holds the file's keys; what they say of the model is not translated to the terms of ``config`` yet.

    Raises:
        CheckpointError: it is no whole GGUF file.
    """

    def __init__(self, path: Path):
        header = read_header(path)
        self.path, self.directory = path, path.parent
        self.metadata: dict[str, Any] = header.fields
        self.config = {}
        self.specs: dict[str, StoredTensor] = header.tensors
        self.bytes_read = 0

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def files(self) -> dict[str, int]:
        return {self.path.name: self.path.stat().st_size}

    @property
    def companions(self) -> tuple[str, ...]:
        return ()

    def read(self, name: str) -> bytes:
        raise CheckpointError("file-missing", f"{self.path} has no companion files such as {name}")

    def is_own(self, name: str) -> bool:
        return False

    def spec(self, name: str) -> StoredTensor:
        super().spec(name)
        return self.specs[name]

    def raw(self, name: str, rows: slice | None = None, *, counted: bool = True) -> Bits:
        """As :meth:`TensorStore.raw`; of types that numpy lacks, the bytes of every row: ``[rows, bytes]``."""
        spec = self.spec(name)
        begin, end, _ = (rows or slice(None)).indices(spec.shape[0])
        row = spec.nbytes // spec.shape[0]
        with self.path.open("rb") as file:
            data = np.fromfile(file, np.uint8, max(end - begin, 0) * row, offset=spec.begin + begin * row)
        if data.size != max(end - begin, 0) * row:
            raise CheckpointError("gguf-damaged", f"{self.path} became shorter while it was read")
        self.bytes_read += data.size if counted else 0
        if spec.dtype in STORAGE_TYPES:
            return data.view(STORAGE_TYPES[spec.dtype].numpy).reshape(-1, *spec.shape[1:])
        return data.reshape(-1, row)

    def loaded(self, name: str) -> Bits:
        return self.raw(name)

    def float32(self, name: str, rows: slice | None = None) -> Float32:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        spec = self.spec(name)
        data = self.raw(name, rows)
        try:
            values = dequantize(data.view(np.uint8).reshape(len(data), -1), GGMLQuantizationType[spec.dtype])
        except NotImplementedError:
            raise CheckpointError("dtype-no-floats", f"{self.path}: {name} is stored as {spec.dtype}") from None
        found: Float32 = values.reshape(len(data), *spec.shape[1:])
        return found

    def byte_range(self, name: str) -> ByteRange:
        spec = self.spec(name)
        return ByteRange(self.path, spec.begin, spec.end)

    def rewritten(self, tensors: Iterable[Replacement], *, renumber: bool = False) -> NewWeights:
        raise CheckpointError("format-read-only", f"{self.path}: GGUF files are not edited yet")

    def fingerprint(self, progress: Progress | None = None) -> str:
        return file_sha256(self.path, progress)

    @property
    def config_sha256(self) -> str:
        """The hash of everything before the tensors."""
        begin = min((spec.begin for spec in self.specs.values()), default=self.path.stat().st_size)
        with self.path.open("rb") as file:
            return hashlib.sha256(file.read(begin)).hexdigest()

    def sample_sha256(self) -> str:
        return self.fingerprint()
