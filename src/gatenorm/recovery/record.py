"""What a recovery was and what it brought: ``recovery.json`` of every recovered directory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatenorm.records import Record, read_record, to_json
from gatenorm.records.evidence import Measurement
from gatenorm.recovery.settings import Settings
from gatenorm.results import Fingerprint
from gatenorm.surgery.disk import RECOVERY_FILE

RECOVERY_SCHEMA = "gatenorm/recovery/1"
KIND = "recovery"


@dataclass(frozen=True)
class Recovered:
    """A recovered checkpoint: where it lies, and what its training measured.

    ``evidence`` is of kind ``recovery``; ``history`` what was watched, as in :class:`gatenorm.recovery.state.State`;
    ``key`` everything that the outcome follows from; ``diverged`` why the training ended early, if it did;
    ``already`` whether it was found finished, and nothing was trained.
    """

    directory: Path
    evidence: tuple[Measurement, ...]
    history: tuple[Mapping[str, float], ...]
    key: Fingerprint
    diverged: str | None = None
    already: bool = False

    @property
    def figures(self) -> Mapping[str, float]:
        """The numbers of the evidence."""
        return self.evidence[0].figures

    def to_json(self) -> Any:
        return to_json(_File(self.evidence, self.history, self.key, self.diverged))

    @classmethod
    def read(cls, directory: Path) -> Recovered:
        """What lies in a recovered directory.

        Raises:
            RecordError: its ``recovery.json`` is missing, damaged, or of another version.
        """
        file = read_record(_File, directory / RECOVERY_FILE, "a recovery")
        return cls(directory, file.evidence, file.history, file.key, file.diverged, already=True)


class _File(Record, frozen=True, tag=RECOVERY_SCHEMA):
    """``recovery.json``."""

    evidence: tuple[Measurement, ...]
    history: tuple[Mapping[str, float], ...]
    key: Fingerprint
    diverged: str | None


def figures_of(
    before: float, after: float, merged: float, parent: float | None, counts: Mapping[str, float]
) -> dict[str, float]:
    """The numbers of the record: losses in nats per token on the held-out windows, and their perplexities.

    ``won_back = (before - merged) / (before - parent)`` is the share of the log-perplexity that pruning lost and the
    recovered checkpoint, as it is stored, has again; only where the parent was measured and pruning lost anything.
    """
    losses = {"before": before, "after": after, "merged": merged, **({} if parent is None else {"parent": parent})}
    found = {f"nll_{name}": value for name, value in losses.items()}
    found |= {f"perplexity_{name}": math.exp(min(value, 700.0)) for name, value in losses.items()}
    if parent is not None and before > parent:
        found["won_back"] = (before - merged) / (before - parent)
    return {**found, **counts}


def summary_of(settings: Settings, step: int, data: str) -> dict[str, Any]:
    """What ``config.json`` says of it, so that the model carries the word wherever it goes."""
    return {"schema": RECOVERY_SCHEMA, "objective": settings.objective, "steps": step, "data": data}
