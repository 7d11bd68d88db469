"""Measurements of speed, of exports and of training, by names of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gatenorm.records.evidence.base import Evidence


class Measurement(Evidence, frozen=True, kw_only=True, tag="gatenorm/measurement/1"):
    """A measurement whose ``figures``, ``protocol`` and ``data`` have names of their own."""

    noun: str
    figures: dict[str, float]
    protocol: dict[str, Any]  # type: ignore[assignment]
    data: dict[str, Any] = msgspec.field(default_factory=dict)  # type: ignore[assignment]

    @property
    def kind(self) -> str:
        return self.noun

    @property
    def task(self) -> str:
        return str(self.protocol.get("task", ""))

    @property
    def data_name(self) -> str:
        return str(self.data.get("name", ""))

    def facts(self) -> Mapping[str, Any]:
        return self.protocol

    def same_task(self, other: Evidence) -> bool:
        """Never: these are not compared item by item."""
        return False

    def numbers(self) -> Mapping[str, float]:
        return self.figures
