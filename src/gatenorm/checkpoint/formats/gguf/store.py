"""The tensors of a GGUF file, under the names that the file gives them."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gatenorm.checkpoint.dtypes import STORAGE_TYPES, Bits, Float32, to_float32
from gatenorm.checkpoint.formats.gguf.header import Header, read_header
from gatenorm.checkpoint.formats.safetensors.local import LocalFiles
from gatenorm.checkpoint.parts import ByteRange
from gatenorm.checkpoint.store import GGUF, NewWeights, Replacement, StoredTensor, TensorStore
from gatenorm.errors import CheckpointError, printable
from gatenorm.files import parse_json
from gatenorm.progress import Progress

# What gatenorm writes of a model that it pruned: the entry that its config.json would have.
RECORD_KEY = "gatenorm.record"


class GgufStore(TensorStore):
    """A GGUF file. Types of less than 16 bits are taken apart by the gguf package, in NumPy.

    ``metadata`` holds the file's keys, ``kinds`` the type of each as the format numbers them; ``config`` has the
    architecture as ``model_type`` and, of a pruned model, its record.

    Raises:
        CheckpointError: it is no whole GGUF file, or one part of several.
    """

    form: ClassVar[str] = GGUF

    def __init__(self, path: Path, header: Header | None = None):
        header = header or read_header(path)
        parts = header.fields.get("split.count", 1)
        if parts != 1:
            problem = f"{path} is one of {parts!r:.20} parts of a model"
            hint = "join them: llama-gguf-split --merge FIRST-PART JOINED.gguf"
            raise CheckpointError("gguf-split", problem, expected="a whole model in one file", hint=hint)
        self._path, self.directory = path, path.parent
        # A link may lead anywhere: the file was named by whoever runs this.
        self._files, self._file = LocalFiles(path.resolve().parent), path.resolve().name
        self._files.size(self._file)  # from here on the file must stay the same
        self.metadata: Mapping[str, Any] = header.fields
        self.kinds: Mapping[str, tuple[int, int | None]] = header.kinds
        self.config = {"model_type": header.fields.get("general.architecture"), **_record(path, header.fields)}
        self.specs: dict[str, StoredTensor] = header.tensors
        self.bytes_read = 0

    @property
    def path(self) -> Path:
        return self._path

    @property
    def name(self) -> str:
        return printable(self.path.stem)

    @property
    def files(self) -> dict[str, int]:
        return {self.path.name: self._files.size(self._file)}

    @property
    def companions(self) -> tuple[str, ...]:
        return ()

    def read(self, name: str) -> bytes:
        raise CheckpointError("file-missing", f"{self.path} has no companion files such as {name}")

    def is_own(self, name: str) -> bool:
        return False

    def check_unchanged(self) -> None:
        self._files.check_unchanged()

    def spec(self, name: str) -> StoredTensor:
        super().spec(name)
        return self.specs[name]

    def raw(self, name: str, rows: slice | None = None) -> Bits:
        """As :meth:`TensorStore.raw`; of types that numpy lacks, the bytes of every row: ``[rows, bytes]``."""
        spec = self.spec(name)
        plain = STORAGE_TYPES.get(spec.dtype)
        # The blocks of a vector are one row.
        count = spec.shape[0] if plain or len(spec.shape) > 1 else 1
        begin, end, _ = (rows or slice(None)).indices(count)
        row, size = spec.nbytes // count, max(end - begin, 0) * (spec.nbytes // count)
        self.bytes_read += size
        view = self._files.view(self._file, spec.begin + begin * row, size) if size else b""
        data = np.frombuffer(view, np.uint8)
        return data.view(plain.numpy).reshape(-1, *spec.shape[1:]) if plain else data.reshape(-1, row)

    def loaded(self, name: str) -> Bits:
        return np.array(self.raw(name))

    def float32(self, name: str, rows: slice | None = None) -> Float32:
        spec = self.spec(name)
        if spec.dtype in STORAGE_TYPES:
            return to_float32(self.raw(name, rows), spec.dtype)
        if len(spec.shape) == 1:
            return self._decoded(name, self.raw(name)).reshape(-1)[rows or slice(None)]
        data = self.raw(name, rows)
        return self._decoded(name, data).reshape(len(data), *spec.shape[1:])

    def _decoded(self, name: str, data: Bits) -> Float32:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        kind = self.spec(name).dtype
        try:
            values: Float32 = dequantize(data, GGMLQuantizationType[kind])
        except NotImplementedError:
            raise CheckpointError("dtype-no-floats", f"{self.path}: {name} is stored as {kind}") from None
        return values

    def byte_range(self, name: str) -> ByteRange:
        spec = self.spec(name)
        return ByteRange(self.path, spec.begin, spec.end)

    def rewritten(self, tensors: Iterable[Replacement], *, renumber: bool = False) -> NewWeights:
        raise CheckpointError(
            "format-read-only", f"{self.path}: weights of GGUF files go into no directory as they are stored"
        )

    def fingerprint(self, progress: Progress | None = None) -> str:
        return self._files.sha256(self._file, progress)

    @property
    def config_sha256(self) -> str:
        """The hash of everything before the tensors."""
        begin = min((spec.begin for spec in self.specs.values()), default=self._files.size(self._file))
        return hashlib.sha256(self._files.read(self._file, 0, begin)).hexdigest()

    def sample_sha256(self) -> str:
        return self._files.sample_sha256([self._file])


def _record(path: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    if RECORD_KEY not in fields:
        return {}
    try:
        return {"gatenorm": parse_json(fields[RECORD_KEY].encode())}
    except (AttributeError, ValueError) as error:
        raise CheckpointError("gguf-damaged", f"{path}: {RECORD_KEY} cannot be read ({error!s:.80})") from None
