"""A directory with ``config.json`` and safetensors weights: one file, or shards with an index."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gatenorm.checkpoint.companions import INDEX, SINGLE, is_weights
from gatenorm.checkpoint.dtypes import STORAGE_TYPES, Bits, Float32
from gatenorm.checkpoint.formats.safetensors.header import Header, parse_header
from gatenorm.checkpoint.formats.safetensors.local import LocalFiles
from gatenorm.checkpoint.formats.safetensors.writer import NewFile, NewFiles
from gatenorm.checkpoint.hub import hub_commit, hub_id
from gatenorm.checkpoint.misfits import ADAPTER, CONFIG, adapter_alone, adapter_beside, without_config, without_weights
from gatenorm.checkpoint.parts import ByteRange, NewTensor
from gatenorm.checkpoint.quantised_weights import ModelTensors, quantised_weights
from gatenorm.checkpoint.store import Format, Replacement, StoredTensor, TensorSpec, TensorStore
from gatenorm.errors import CheckpointError, RecordError, printable
from gatenorm.files import LARGE
from gatenorm.progress import Progress, part_of
from gatenorm.records.serialization import read_json

_ENDING = ".safetensors"
# Says nothing to a loader, and changes when findings are added to the card.
_PROSE = ".md"


class SafetensorsStore(TensorStore):
    """Safetensors files in one place; local ones are mapped, so memory that reads occupy belongs to the page cache.

    Raises:
        CheckpointError: no or unreadable ``config.json``, no safetensors, a missing or truncated shard, a header or an
            index that contradicts the files.
    """

    def __init__(self, files: LocalFiles):
        self._files = files
        self.directory = files.directory
        adapter, whole = ADAPTER in files.names(), self._has_weights()
        if adapter and whole:
            raise adapter_beside(self.directory)
        if adapter:
            raise adapter_alone(self.directory, self._json(ADAPTER, "the adapter's configuration"))
        if whole or not files.others():
            if not os.path.lexists(self.directory / CONFIG):
                raise without_config(self.directory, whole=whole)
            self.config = self._json(CONFIG, "the model's configuration")
        if not whole:
            raise without_weights(self.directory, files.others())
        self._headers, self._index = self._weights()
        self._stored = {t.name: t for h in self._headers.values() for t in h.tensors}
        self.bytes_read = 0
        self._quantised = quantised_weights(self, self.config)
        self.specs: Mapping[str, TensorSpec] = ModelTensors(self._stored, self._quantised)

    def _has_weights(self) -> bool:
        return self._files.has(SINGLE) or (self.directory / INDEX).exists()

    def _weights(self) -> tuple[dict[str, Header], dict[str, Any] | None]:
        """The headers of the weight files, and their index where there is one."""
        if self._files.has(SINGLE):
            return {SINGLE: _open_header(self._files, SINGLE)}, None
        index = self._json(INDEX, "the index of the weights")
        return open_shards(self._files, index), index

    @property
    def name(self) -> str:
        return hub_id(self.directory) or printable(self.directory.resolve().name)

    @property
    def commit(self) -> str:
        return hub_commit(self.directory)

    @property
    def remote(self) -> bool:
        return self._files.remote

    @property
    def stored(self) -> Mapping[str, StoredTensor]:
        return self._stored

    @property
    def quantised_by(self) -> str:
        return next((weight.method for weight in self._quantised.values()), "")

    @property
    def files(self) -> dict[str, int]:
        return {name: self._files.size(name) for name in sorted(self._headers)}

    @property
    def companions(self) -> tuple[str, ...]:
        return tuple(self._files.names())

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(name for name in self._files.others() if name not in (*self._headers, INDEX))

    def read(self, name: str) -> bytes:
        return self._files.content(name, LARGE)

    def is_own(self, name: str) -> bool:
        return self._files.is_own(name)

    def check_unchanged(self) -> None:
        self._files.check_unchanged()

    def raw(self, name: str, rows: slice | None = None) -> Bits:
        entry = self._entry(name)
        storage = STORAGE_TYPES[entry.dtype]
        begin, shape = entry.begin, entry.shape
        if rows is not None:
            if not shape or rows.step not in (None, 1):
                raise CheckpointError(
                    "rows-wrong", f"{name} of shape {list(shape)} has no rows {rows}", expected="a run of rows"
                )
            start, stop, _ = rows.indices(shape[0])
            row_bytes = entry.nbytes // shape[0] if shape[0] else 0
            begin, shape = entry.begin + start * row_bytes, (max(stop - start, 0), *shape[1:])
        size = int(np.prod(shape, dtype=np.int64))
        self.bytes_read += size * storage.itemsize
        if size == 0:
            return np.empty(shape, storage.numpy)
        # frombuffer wants alignment only for speed, and safetensors does not promise it.
        view = self._files.view(entry.file, begin, size * storage.itemsize)
        return np.frombuffer(view, storage.numpy, size).reshape(shape)

    def float32(self, name: str, rows: slice | None = None) -> Float32:
        weight = self._quantised.get(name)
        return super().float32(name, rows) if weight is None else weight.float32(rows)

    def loaded(self, name: str) -> Bits:
        entry = self._entry(name)
        self.bytes_read += entry.nbytes
        data = self._files.loaded(entry.file, entry.begin, entry.nbytes)
        return data.view(STORAGE_TYPES[entry.dtype].numpy).reshape(entry.shape)

    def byte_range(self, name: str) -> ByteRange:
        entry = self._entry(name)
        return ByteRange(self.directory / entry.file, entry.begin, entry.end)

    def rewritten(self, tensors: Iterable[Replacement], *, renumber: bool = False) -> NewFiles:
        remote = next((name for name in self._headers if not (self.directory / name).exists()), None)
        if remote is not None:
            raise CheckpointError("weights-remote", f"{self.name}: {remote} is on the hub", hint="download the model")
        shards: dict[str, list[tuple[float, NewTensor]]] = defaultdict(list)
        home = next(iter(self._headers))
        for source, tensor in tensors:
            entry = None if source is None else self._entry(source)
            home = home if entry is None else entry.file
            shards[home].append((float("inf") if entry is None else entry.begin, tensor))
        kept = [file for file in self._headers if file in shards]
        names = dict(zip(kept, kept, strict=True))
        if renumber and len(kept) == 1:
            names = {kept[0]: SINGLE}
        elif renumber:
            names = {file: f"model-{i:05}-of-{len(kept):05}.safetensors" for i, file in enumerate(kept, 1)}
        files = tuple(
            NewFile(
                name=names[file],
                tensors=tuple(tensor for _, tensor in sorted(shards[file], key=lambda pair: pair[0])),
                metadata={**({"format": "pt"} if renumber else {}), **self._headers[file].metadata},
            )
            for file in kept
        )
        indexed = len(files) > 1 if renumber else self._index is not None
        return NewFiles(files, self._index_metadata() if indexed else None)

    def fingerprint(self, progress: Progress | None = None) -> str:
        weights = self.files
        total, done = sum(weights.values()), 0
        digest = hashlib.sha256()
        # Whatever its name, a tokenizer may read it; but none opens one that is larger than LARGE, of which size and
        # sample are enough: unlike its time of change, they are the same for a copy of the model.
        read = sorted({*self.companions, *(name for name in self.others if (self.directory / name).is_file())})
        for name in read:
            if not name.endswith(_PROSE) and not is_weights(name):
                content = self._files.sha256(name, None, LARGE)
                digest.update(os.fsencode(f"{name} {content}\n"))  # not every name is UTF-8
        for name, size in weights.items():
            digest.update(f"{name} {self._files.sha256(name, part_of(progress, done, total))}\n".encode())
            done += size
        return digest.hexdigest()

    @property
    def config_sha256(self) -> str:
        return hashlib.sha256(self.read("config.json")).hexdigest()

    def sample_sha256(self) -> str:
        return self._files.sample_sha256(sorted(self._headers))

    def _entry(self, name: str) -> StoredTensor:
        if name not in self._stored:
            raise CheckpointError("tensor-missing", f"{self.directory} has no stored tensor {name}")
        return self._stored[name]

    def _json(self, name: str, what: str) -> dict[str, Any]:
        try:
            data = read_json(self._files.path(name), what)
        except RecordError as error:
            raise error.as_kind(CheckpointError) from None
        self._files.note(name)
        return data

    def _index_metadata(self) -> dict[str, Any]:
        """What the index says besides sizes, which change with the tensors."""
        given = (self._index or {}).get("metadata")
        sizes = ("total_size", "total_parameters")
        return {key: value for key, value in given.items() if key not in sizes} if isinstance(given, dict) else {}


def _open_header(files: LocalFiles, name: str) -> Header:
    return parse_header(lambda offset, length: files.read(name, offset, length), files.size(name), name)


def open_shards(
    files: LocalFiles,
    index: dict[str, Any],
    index_name: str = INDEX,
    ending: str = _ENDING,
    open_header: Callable[[LocalFiles, str], Header] = _open_header,
) -> dict[str, Header]:
    """The headers of all files that an index names, compared with it.

    Raises:
        CheckpointError: a file is missing, damaged, or another than the index says.
    """
    directory, weight_map = files.directory, index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError("index-damaged", f"{directory / index_name} has no weight_map", hint="fetch it again")
    headers: dict[str, Header] = {}
    for name, file in weight_map.items():
        # An index is input from strangers: it may name weight files beside itself and nothing else, above all none that
        # a pruned directory has for other things.
        if not isinstance(file, str) or Path(file).name != file or "\\" in file or Path(file).suffix != ending:
            problem = f"{index_name} names {file!r:.80} for {name:.80}"
            raise CheckpointError("index-leads-elsewhere", problem, expected=f"a file in the same directory, *{ending}")
        if file not in headers:
            if not files.has(file):
                problem = f"shard {file:.80} is missing from {directory}: {index_name} names it"
                raise CheckpointError("shard-missing", problem, hint="fetch it")
            headers[file] = open_header(files, file)
    owners: dict[str, str] = {}
    for file, header in headers.items():
        for tensor in header.tensors:
            if tensor.name in owners:
                raise CheckpointError(
                    "tensor-twice", f"tensor {tensor.name} lies in both {owners[tensor.name]} and {file}"
                )
            owners[tensor.name] = file
    for name, file in weight_map.items():
        if owners.get(name) != file:
            raise CheckpointError("index-wrong", f"{index_name} says that {name} lies in {file}, but it does not")
    return headers


FORMAT = Format(
    recognises=lambda place: Path(place).is_dir(),
    open=lambda place: SafetensorsStore(LocalFiles(Path(place))),
)
