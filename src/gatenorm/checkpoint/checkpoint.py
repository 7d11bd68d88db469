"""A checkpoint on disk: names, shapes and lazy reads of tensors. Knows nothing of attention."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gatenorm.checkpoint.dtypes import STORAGE_TYPES, Bits, Float32, to_float32
from gatenorm.checkpoint.files import Files, LocalFiles, read_object
from gatenorm.checkpoint.header import Header, TensorInfo, parse_header
from gatenorm.checkpoint.hub import hub_id
from gatenorm.checkpoint.remote import HubFiles
from gatenorm.errors import CheckpointError

if TYPE_CHECKING:
    import torch

ENDING = ".safetensors"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class Checkpoint:
    """A directory with ``config.json`` and safetensors weights (one file, or shards with an index).

    Opening reads headers only; a tensor's bytes are touched when it is asked for, and only those rows. Files are
    mapped, so memory that the reads occupy belongs to the page cache. ``bytes_read`` counts what was asked for.
    """

    def __init__(self, lie: Files, config: dict[str, Any], headers: dict[str, Header], index: dict[str, Any] | None):
        self._files = lie
        self.directory = lie.directory
        self.config = config
        self.headers = headers
        self.index = index
        self.tensors: Mapping[str, TensorInfo] = {t.name: t for h in headers.values() for t in h.tensors}
        self.bytes_read = 0

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Checkpoint:
        """Open a local checkpoint directory.

        Raises:
            CheckpointError: no such directory, no or unreadable ``config.json``, no safetensors, a missing or truncated
                shard, a header or an index that lies.
        """
        path = Path(directory)
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise CheckpointError(f"{path} {what}: expected a directory with config.json and *.safetensors")
        return cls._read(LocalFiles(path))

    @classmethod
    def open_remote(cls, model: str) -> Checkpoint:
        """Open a model on the hub where it lies: headers are fetched now, ranges of weights when they are asked for.

        Raises:
            CheckpointError: the hub does not answer or has no such model, or as :meth:`open`.
        """
        return cls._read(HubFiles(model))

    @classmethod
    def _read(cls, files: Files) -> Checkpoint:
        directory = files.directory
        config = read_object(files, "config.json", f"{directory} has no config.json: is it a model directory?")
        if files.has(SINGLE):
            return cls(files, config, {SINGLE: _open_header(files, SINGLE)}, None)
        if (directory / INDEX).exists():
            index = read_object(files, INDEX, f"{directory / INDEX} is not readable")
            return cls(files, config, _open_shards(files, index), index)
        if any(next(directory.glob(pattern), None) for pattern in _PICKLED):
            raise CheckpointError(
                f"{directory} holds only pickled weights, which can run code when loaded: convert it to safetensors "
                "first"
            )
        raise CheckpointError(f"{directory} has neither {SINGLE} nor {INDEX}: expected safetensors weights")

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[TensorInfo]:
        return iter(self.tensors.values())

    def info(self, name: str) -> TensorInfo:
        """Where tensor ``name`` lies, its shape and type.

        Raises:
            CheckpointError: there is no such tensor.
        """
        if name not in self.tensors:
            raise CheckpointError(f"{self.directory} has no tensor {name}")
        return self.tensors[name]

    def bits(self, name: str, rows: slice | None = None, count: bool = True) -> Bits:
        """The stored bits of a tensor, or of a run of its rows: a view of the mapped file, nothing is copied.

        bf16 comes as uint16 and fp8 as uint8, since numpy has no such floats. ``count=False`` leaves ``bytes_read`` to
        a caller who will read only parts of the view.
        """
        info = self.info(name)
        storage = STORAGE_TYPES[info.dtype]
        begin, shape = info.begin, info.shape
        if rows is not None:
            if not shape or rows.step not in (None, 1):
                raise CheckpointError(f"{name} of shape {list(shape)} has no rows {rows}: expected a run of rows")
            start, stop, _ = rows.indices(shape[0])
            row_bytes = info.nbytes // shape[0] if shape[0] else 0
            begin, shape = info.begin + start * row_bytes, (max(stop - start, 0), *shape[1:])
        size = int(np.prod(shape, dtype=np.int64))
        self.bytes_read += size * storage.itemsize if count else 0
        if size == 0:
            return np.empty(shape, storage.numpy)
        # frombuffer wants alignment only for speed, and safetensors does not promise it.
        view = self._files.view(info.file, begin, size * storage.itemsize, ahead=count)
        return np.frombuffer(view, storage.numpy, size).reshape(shape)

    def float32(self, name: str, rows: slice | None = None) -> Float32:
        """A tensor, or a run of its rows, as float32 in memory of its own.

        Raises:
            CheckpointError: there is no such tensor, or its type holds no floats.
        """
        return to_float32(self.bits(name, rows), self.info(name).dtype)

    def torch(self, name: str, rows: slice | None = None, device: str = "cpu") -> torch.Tensor:
        """A tensor, or a run of its rows, as a torch tensor of the stored type on ``device``, without a detour."""
        import torch

        bits = np.array(self.bits(name, rows))  # a copy: torch tensors are writable, the mapped file is not
        dtype = getattr(torch, STORAGE_TYPES[self.info(name).dtype].torch)
        return torch.from_numpy(bits).view(dtype).to(device)

    @property
    def files(self) -> dict[str, int]:
        """Size in bytes of every weight file."""
        return {name: self._files.size(name) for name in sorted(self.headers)}

    @property
    def name(self) -> str:
        """What people call it: the model id of a hub snapshot, else the directory's name."""
        return hub_id(self.directory) or self.directory.resolve().name

    def sample_sha256(self) -> str:
        """A hash of a few kilobytes out of the weights, by which fine-tunes of one model differ; empty on the hub."""
        return self._files.sample_sha256(self.files)

    @property
    def config_sha256(self) -> str:
        return hashlib.sha256((self.directory / "config.json").read_bytes()).hexdigest()


def _open_header(files: Files, name: str) -> Header:
    return parse_header(lambda offset, length: files.read(name, offset, length), files.size(name), name)


def _open_shards(files: Files, index: dict[str, Any]) -> dict[str, Header]:
    directory, weight_map = files.directory, index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{directory / INDEX} has no weight_map: fetch it again")
    headers: dict[str, Header] = {}
    for name, file in weight_map.items():
        # An index is input from strangers: it may name weight files beside itself and nothing else, above all none that
        # a pruned directory has for other things.
        if not isinstance(file, str) or Path(file).name != file or "\\" in file or Path(file).suffix != ENDING:
            raise CheckpointError(
                f"{INDEX} names {file!r:.80} for {name:.80}: expected a file in the same directory, *{ENDING}"
            )
        if file not in headers:
            if not files.has(file):
                raise CheckpointError(f"shard {file:.80} is missing from {directory}: {INDEX} names it, fetch it")
            headers[file] = _open_header(files, file)
    owners: dict[str, str] = {}
    for file, header in headers.items():
        for tensor in header.tensors:
            if tensor.name in owners:
                raise CheckpointError(f"tensor {tensor.name} lies in both {owners[tensor.name]} and {file}")
            owners[tensor.name] = file
    for name, file in weight_map.items():
        if owners.get(name) != file:
            raise CheckpointError(f"{INDEX} says that {name} lies in {file}, but it does not")
    return headers
