"""What is to be removed, and why: ``plan.json`` and the ``gatenorm.json`` of every pruned directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatenorm.records.fields import check_schema, layers, name_or_none, readable
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.scores import Scores

PLAN_SCHEMA = "gatenorm/plan/1"


@dataclass(frozen=True)
class Plan:
    """Which attention sublayers are removed, in original 0-based indices, and why.

    ``drop`` is complete: when a pruned checkpoint is pruned again it names the old and the new removals, and
    ``previous`` keeps the plan that came before. ``model`` identifies the checkpoint that the plan was made for.
    """

    model: ModelIdentity
    drop: tuple[int, ...]
    criterion: str | None = None
    scores: Scores | None = None
    protect: tuple[int, ...] = ()
    previous: Plan | None = None
    version: str = ""

    @property
    def new(self) -> tuple[int, ...]:
        """The removals that this plan adds to those of ``previous``."""
        before = set(self.previous.drop) if self.previous else set()
        return tuple(i for i in self.drop if i not in before)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": PLAN_SCHEMA,
            "drop": list(self.drop),
            "criterion": self.criterion,
            "protect": list(self.protect),
            "model": self.model.to_json(),
            "scores": self.scores.to_json() if self.scores else None,
            "previous": self.previous.to_json() if self.previous else None,
            "version": self.version,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        check_schema(data, PLAN_SCHEMA, "a plan")
        with readable("a plan"):
            return cls(
                model=ModelIdentity.from_json(data["model"]),
                drop=tuple(sorted(set(layers(data["drop"])))),
                criterion=name_or_none(data.get("criterion")),
                scores=Scores.from_json(data["scores"]) if data.get("scores") else None,
                protect=layers(data.get("protect", ())),
                previous=Plan.from_json(data["previous"]) if data.get("previous") else None,
                version=str(data.get("version", "")),
            )
