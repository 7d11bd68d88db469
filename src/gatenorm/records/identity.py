"""Which checkpoint a record speaks of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatenorm.records.validation import whole


@dataclass(frozen=True)
class ModelIdentity:
    """Which checkpoint a record speaks of.

    ``config_sha256`` is the hash of ``config.json`` as it lies on disk, ``files`` the size in bytes of every weight
    file, ``sample_sha256`` the hash of a few kilobytes spread over them: the first two are equal for a base model and
    its fine-tunes, the last is not. Nothing here proves that every weight is the same. ``recovered`` says that it was
    trained after it had been pruned: what is measured on it speaks of pruning and training together.
    """

    name: str
    model_type: str
    layers: int
    config_sha256: str
    files: Mapping[str, int]
    sample_sha256: str = ""
    recovered: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model_type": self.model_type,
            "layers": self.layers,
            "config_sha256": self.config_sha256,
            "files": dict(self.files),
            "sample_sha256": self.sample_sha256,
            # Left out where it is false: records of models that were only pruned stay what they were.
            **({"recovered": True} if self.recovered else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelIdentity:
        return cls(
            name=str(data["name"]),
            model_type=str(data["model_type"]),
            layers=whole(data["layers"]),
            config_sha256=str(data["config_sha256"]),
            files={str(k): whole(v) for k, v in data["files"].items()},
            sample_sha256=str(data.get("sample_sha256", "")),
            recovered=data.get("recovered") is True,
        )

    def same_weights(self, other: ModelIdentity) -> bool:
        """Whether both speak of the same checkpoint, wherever it lies and whatever its folder is called."""
        # A checkpoint that was only looked at from afar has no sample.
        same_sample = not (self.sample_sha256 and other.sample_sha256) or self.sample_sha256 == other.sample_sha256
        return same_sample and (self.config_sha256, dict(self.files)) == (other.config_sha256, dict(other.files))
