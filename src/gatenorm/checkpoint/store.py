"""A checkpoint: names, shapes and lazy reads of its tensors, in whatever format they are stored."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np

from gatenorm.checkpoint.dialect import Dialect
from gatenorm.checkpoint.dtypes import STORAGE_TYPES, Bits, Float32, to_float32
from gatenorm.checkpoint.parts import ByteRange, NewTensor
from gatenorm.errors import CheckpointError
from gatenorm.progress import Progress

if TYPE_CHECKING:
    import torch

# Forms of checkpoints: a directory that transformers loads, a file that llama.cpp does.
TRANSFORMERS, GGUF = "transformers", "gguf"
# What a ``config.json`` holds: other people's JSON, of which families say which keys they read.
ModelConfig = Mapping[str, Any]
# How many rows of two tensors are compared at once.
_ROWS = 4096


@dataclass(frozen=True)
class TensorSpec:
    """A stored tensor: its name, its type as the format calls it, its shape, and how many bytes it takes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class StoredTensor(TensorSpec):
    """A tensor in a file: ``begin`` is the absolute byte offset of its data."""

    file: str
    begin: int

    @property
    def end(self) -> int:
        return self.begin + self.nbytes


class NewWeights(Protocol):
    """Weight files ready to be written; ``size`` is their length in bytes."""

    @property
    def size(self) -> int: ...

    def write(self, directory: Path, progress: Progress | None = None) -> None:
        """Write them into ``directory``; ``progress`` is called with (bytes written, bytes in all)."""
        ...


class TensorStore(Protocol):
    """The tensors and companion files of one checkpoint.

    Opening reads names, shapes and types only; of the weights, only what is asked for is read.

    Attributes:
        config: the model's configuration, in the terms of ``config.json``.
        specs: the tensors of the model by name, in the order of their data.
        files: size in bytes of every weight file.
        companions: names of the other files that loading or tokenising may read.
        others: names of files and folders beside these that are neither weights in use nor companions.
        directory: where the files lie, for libraries that insist on a path; for remote weights, the companions alone.
        bytes_read: bytes of weights that were asked for so far.
        form: what engines that read it call this form: ``transformers`` where transformers loads the directory, else
            the name of the export form that writes it, or one of its own.
        dialect: the key under which a family says how names of this format become those of transformers, until it is
            :meth:`translated`; empty where it uses these.
    """

    form: ClassVar[str] = TRANSFORMERS
    dialect: ClassVar[str] = ""
    config: dict[str, Any]
    specs: Mapping[str, TensorSpec]
    directory: Path
    bytes_read: int

    @property
    def name(self) -> str:
        """What people call it: the model id of a hub snapshot, else the name of its directory or file."""
        ...

    @property
    def path(self) -> Path:
        """What an engine that reads this format is given: the directory, or the one file that holds it all."""
        return self.directory

    @property
    def commit(self) -> str:
        """The commit of the hub that it is a snapshot of; empty for other checkpoints."""
        return ""

    @property
    def remote(self) -> bool:
        """Whether what is read is fetched first."""
        return False

    @property
    def stored(self) -> Mapping[str, TensorSpec]:
        """The tensors in the files by name: another set than ``specs`` where several together are one weight.

        :meth:`raw`, :meth:`same`, :meth:`byte_range` and :meth:`rewritten` speak of these, as does whatever copies.
        """
        return self.specs

    @property
    def quantised_by(self) -> str:
        """The method by which some weights are stored in parts, such as ``gptq``; empty where all are stored whole."""
        return ""

    @property
    def files(self) -> Mapping[str, int]: ...

    @property
    def companions(self) -> tuple[str, ...]: ...

    @property
    def others(self) -> tuple[str, ...]:
        return ()

    def read(self, name: str) -> bytes:
        """The content of a companion file.

        Raises:
            CheckpointError: it does not exist or cannot be read.
        """
        ...

    def is_own(self, name: str) -> bool:
        """Whether a companion exists and belongs to the checkpoint: a link that leads elsewhere must not be copied."""
        ...

    def check_unchanged(self) -> None:
        """Make sure that what was read is still there, before what was made of it is believed.

        Raises:
            CheckpointError: a file was changed since it was opened.
        """
        return

    def raw(self, name: str, rows: slice | None = None) -> Bits:
        """A tensor as it is stored, or a run of its rows; a view where the file is mapped.

        bf16 comes as uint16 and fp8 as uint8, since numpy has no such floats.

        Raises:
            CheckpointError: there is no such tensor, or it has no such rows.
        """
        ...

    def loaded(self, name: str) -> Bits:
        """A tensor as it is stored, in memory of its own, which is freed with it; mapped pages stay resident."""
        ...

    def byte_range(self, name: str) -> ByteRange:
        """Where a tensor's bytes lie; the file exists only where the weights are local."""
        ...

    def rewritten(self, tensors: Iterable[Replacement], *, renumber: bool = False) -> NewWeights:
        """The weight files with other tensors in place of the stored ones.

        A tensor lies where the one that it replaces lay, others at the end of the file of their predecessor; files
        that hold nothing any more are left out.

        Args:
            renumber: name the files anew; otherwise each keeps its name.

        Raises:
            CheckpointError: the weights are not local.
        """
        ...

    def fingerprint(self, progress: Progress | None = None) -> str:
        """The sha256 of everything that can change what the model computes: all weights and all companions.

        Of other files that are larger than a loader may open one to be, size and a sample count, not every byte.

        Args:
            progress: called with (bytes hashed, bytes in all) where files have to be read.
        """
        ...

    @property
    def config_sha256(self) -> str:
        """The hash of the stored configuration."""
        ...

    def sample_sha256(self) -> str:
        """A hash of a few kilobytes out of the weights, by which fine-tunes of one model differ; empty if remote."""
        ...

    def __contains__(self, name: object) -> bool:
        return name in self.specs

    def spec(self, name: str) -> TensorSpec:
        """What is known of a tensor without reading it.

        Raises:
            CheckpointError: there is no such tensor.
        """
        if name not in self.specs:
            raise CheckpointError("tensor-missing", f"{self.directory} has no tensor {name}")
        return self.specs[name]

    def floats(self, name: str, rows: slice | None = None) -> tuple[Bits, str]:
        """A tensor, or a run of its rows, in a type of safetensors, and which: as stored if it can be, else as float32.

        :func:`to_float32` makes numbers of both.
        """
        dtype = self.spec(name).dtype
        return (self.raw(name, rows), dtype) if dtype in STORAGE_TYPES else (self.float32(name, rows), "F32")

    def float32(self, name: str, rows: slice | None = None) -> Float32:
        """A tensor, or a run of its rows, as float32 in memory of its own.

        Raises:
            CheckpointError: there is no such tensor, or its type holds no floats.
        """
        return to_float32(self.raw(name, rows), self.spec(name).dtype)

    def torch(self, name: str) -> torch.Tensor:
        """A tensor as a torch tensor of the stored type, without a detour; of a type that torch lacks, as float32."""
        import torch

        spec = self.spec(name)
        if spec.dtype not in STORAGE_TYPES:
            return torch.from_numpy(self.float32(name))
        bits = torch.from_numpy(np.atleast_1d(self.loaded(name)))
        return bits.view(getattr(torch, STORAGE_TYPES[spec.dtype].torch)).reshape(spec.shape)

    def equal(self, one: str, other: str) -> bool:
        """Whether two tensors are stored alike, bit for bit; both are read, once for each store."""
        known: dict[tuple[str, str], bool] = vars(self).setdefault("_equal", {})
        if (one, other) not in known:
            known[one, other] = self._equally_stored(self.spec(one), self.spec(other))
        return known[one, other]

    def _equally_stored(self, one: TensorSpec, other: TensorSpec) -> bool:
        return (one.shape, one.dtype) == (other.shape, other.dtype) and all(
            np.array_equal(self.raw(one.name, rows), self.raw(other.name, rows))
            for rows in (slice(begin, begin + _ROWS) for begin in range(0, one.shape[0], _ROWS))
        )

    def same(self, name: str) -> NewTensor:
        """A stored tensor as it is, to be written again."""
        spec = self.stored[name]
        return NewTensor(spec.name, spec.dtype, spec.shape, (self.byte_range(name),))

    def translated(self, dialect: Dialect) -> TensorStore:
        """The same checkpoint under the names of transformers, for formats that have their own.

        Raises:
            CheckpointError: it is no language model.
        """
        return self

    def without(self, removed: Callable[[str], bool]) -> Self:
        """The same checkpoint as though it lacked some of its tensors."""
        found = copy.copy(self)
        found.specs = {name: spec for name, spec in self.specs.items() if not removed(name)}
        return found


# A tensor to write, and the stored one whose place it takes (None: it has no predecessor).
Replacement = tuple[str | None, NewTensor]


@dataclass(frozen=True)
class Format:
    """A way of storing checkpoints; extensions add one under ``gatenorm.formats``.

    Attributes:
        recognises: whether a place, a local path or a model id, is stored so; a look at names, not at contents.
        open: the checkpoint at a place; raises CheckpointError where it is damaged, incomplete, or cannot be reached.
    """

    recognises: Callable[[str], bool]
    open: Callable[[str], TensorStore]
