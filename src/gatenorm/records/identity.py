"""Which checkpoint a record describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from gatenorm.records.serialization import Value

_Count = Annotated[int, msgspec.Meta(ge=0)]


class ModelIdentity(Value, frozen=True):
    """Which checkpoint a record describes.

    ``config_sha256`` is the hash of ``config.json`` as stored, ``files`` the size in bytes of every weight file,
    ``sample_sha256`` the hash of a few kilobytes spread over them: the first two are equal for a base model and its
    fine-tunes, the last is not. None of them proves that every weight is the same. ``recovered`` says that the model
    was trained after pruning: measurements on it describe pruning and training together. ``assumption`` is what is
    known where its family was assumed, ``commit`` that of the hub's repository, which decides where no weights were
    sampled.
    """

    name: str
    model_type: str
    layers: _Count
    config_sha256: str
    files: Mapping[str, _Count]
    sample_sha256: str = ""
    recovered: bool = False
    assumption: str = ""
    commit: str = ""

    def same_weights(self, other: ModelIdentity) -> bool:
        """Whether both describe the same checkpoint, wherever it is stored and whatever its folder is called."""
        # A checkpoint that was only read remotely has no sample.
        mine, its = (self.sample_sha256, other.sample_sha256)
        if not (mine and its):
            mine, its = (self.commit, other.commit) if self.commit and other.commit else ("", "")
        return (mine, self.config_sha256, dict(self.files)) == (its, other.config_sha256, dict(other.files))
