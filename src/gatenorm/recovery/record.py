"""What a recovery was and what it brought: ``recovery.json`` of every recovered directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatenorm.records import Record, Table, read_record
from gatenorm.records.evidence import Recovery
from gatenorm.records.table import Row
from gatenorm.recovery.look import Look
from gatenorm.results import Fingerprint
from gatenorm.surgery.disk import RECOVERY_FILE


class RecoveryRecord(Record, frozen=True, kw_only=True, tag="gatenorm/recovered/1"):
    """``recovery.json``.

    ``history`` has what was seen at each look at the held-out text; ``key`` is everything that the outcome follows
    from; ``diverged`` why the training ended early, if it did.
    """

    evidence: Recovery
    history: tuple[Look, ...]
    key: Fingerprint
    diverged: str | None


@dataclass(frozen=True, repr=False)
class Recovered(Table):
    """A recovered checkpoint, a path as well: where it lies, and its record, whose rows are what it measured.

    ``already`` says that nothing had to be trained.
    """

    directory: Path
    record: RecoveryRecord
    already: bool = False

    @property
    def evidence(self) -> Recovery:
        """What the training measured."""
        return self.record.evidence

    def rows(self) -> Iterator[Row]:
        return self.evidence.rows()

    def subject(self) -> str:
        return str(self.directory)

    def to_dict(self) -> dict[str, Any]:
        """The record as ``recovery.json`` holds it."""
        return self.record.to_dict()

    def __fspath__(self) -> str:
        return os.fspath(self.directory)

    @classmethod
    def read(cls, directory: Path, *, already: bool) -> Recovered:
        """What lies in a recovered directory.

        Raises:
            RecordError: its ``recovery.json`` is missing, damaged, or of another version.
        """
        return cls(directory, read_record(RecoveryRecord, directory / RECOVERY_FILE, "a recovery"), already)
