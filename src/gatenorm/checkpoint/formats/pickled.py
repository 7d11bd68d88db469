"""Pickled weights, on request: a ``.bin`` file, or the index of several, that is named itself.

PyTorch's unpickler for weights alone says which tensors there are and where their bytes lie; it runs no code that a
file asks for, and reads no weight. From there on they are read and copied as those of safetensors files are.
"""

import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gatenorm.checkpoint.dtypes import STORAGE_TYPES
from gatenorm.checkpoint.formats.safetensors.header import Header
from gatenorm.checkpoint.formats.safetensors.local import LocalFiles
from gatenorm.checkpoint.formats.safetensors.store import SafetensorsStore, open_shards
from gatenorm.checkpoint.formats.safetensors.writer import NewFiles
from gatenorm.checkpoint.misfits import check_pointer
from gatenorm.checkpoint.store import Format, Replacement, StoredTensor
from gatenorm.errors import CheckpointError, first_line, needing

_ENDING, _INDEX = ".bin", ".bin.index.json"
_TYPES = {storage.torch: storage for storage in STORAGE_TYPES.values()}


class PickledStore(SafetensorsStore):
    """The weights in ``path``, or in the files that it names, beside their ``config.json``.

    What is written of them is safetensors.

    Raises:
        CheckpointError: it is no file of tensors alone, was written by PyTorch before 1.6, or holds tensors that do not
            lie there in one piece.
        MissingExtraError: PyTorch is not installed.
    """

    def __init__(self, path: Path):
        self._path = path
        super().__init__(LocalFiles(path.parent))

    def _has_weights(self) -> bool:
        return True

    def _weights(self) -> tuple[dict[str, Header], dict[str, Any] | None]:
        name = self._path.name
        if not name.endswith(_INDEX):
            return {name: _header(self._files, name)}, None
        index = self._json(name, "the index of the weights")
        return open_shards(self._files, index, name, _ENDING, _header), index

    def rewritten(self, tensors: Iterable[Replacement], *, renumber: bool = False) -> NewFiles:
        return super().rewritten(tensors, renumber=True)


def _header(files: LocalFiles, name: str) -> Header:
    path, size = files.path(name), files.size(name)
    check_pointer(files.read(name, 0, 23), path)
    return Header(tuple(_tensors(path, name, size, _load(path))), {})


def _load(path: Path) -> Mapping[str, Any]:
    with needing("reading pickled weights", "torch", "torch"):
        import torch
        from torch._subclasses.fake_tensor import FakeTensorMode
    try:
        with zipfile.ZipFile(path) as archive:
            packed = any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist())
            swapped = any(
                archive.read(record) != b"little"
                for record in archive.infolist()
                if record.filename.endswith("/byteorder") and record.file_size < len("little") + 1
            )
        if packed or swapped:
            raise ValueError("its records are compressed, or of another byte order")
        with FakeTensorMode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles in another protocol than PyTorch's own, which can be read
            found = torch.load(path, weights_only=True)
    except Exception as error:  # a stranger's file in somebody else's reader
        raise _wrong(path, first_line(error)[:160]) from None
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise _wrong(path, "it does not map names to tensors")
    return found


def _tensors(path: Path, file: str, size: int, found: Mapping[str, Any]) -> Iterable[StoredTensor]:
    import torch

    for name, tensor in found.items():
        if not isinstance(tensor, torch.Tensor):
            raise _wrong(path, f"{name:.80} is a {type(tensor).__name__}")
        storage = _TYPES.get(str(tensor.dtype).removeprefix("torch."))
        offset = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
        if storage is None or offset is None or not tensor.is_contiguous():
            raise _wrong(path, f"{name:.80} is {tensor.dtype}, or does not lie there in one piece")
        begin, nbytes = offset + tensor.storage_offset() * storage.itemsize, tensor.numel() * storage.itemsize
        if not 0 <= begin <= begin + nbytes <= size:
            raise _wrong(path, f"{name:.80} does not end within the file")
        yield StoredTensor(name, storage.name, tuple(tensor.shape), nbytes, file, begin)


def _wrong(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        "pickle-unreadable", f"{path} is no file of tensors alone: {why}", hint="convert it to safetensors first"
    )


FORMAT = Format(
    recognises=lambda place: place.endswith((_ENDING, _INDEX)) and Path(place).is_file(),
    open=lambda place: PickledStore(Path(place)),
)
