"""What is to be removed, and why: ``plan.json`` and the ``gatenorm.json`` of every pruned directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatenorm.records.identity import ModelIdentity
from gatenorm.records.removal import ATTENTION, Removal
from gatenorm.records.scores import Scores
from gatenorm.records.validation import check_schema, kind_of, layers, name_or_none, readable

PLAN_SCHEMA = "gatenorm/plan/1"
# Of plans that take MLPs too: a release that knows the first only would remove the attention and say that all is done.
PLAN_SCHEMA_2 = "gatenorm/plan/2"


@dataclass(frozen=True)
class Plan:
    """Which sublayers are removed, in original 0-based indices, and why.

    ``drop`` names the layers whose attention goes, ``drop_mlp`` those whose MLP goes; a layer in both loses its block.
    Both are complete: when a pruned checkpoint is pruned again they name the old and the new removals, and
    ``previous`` keeps the plan that came before. ``kind`` says what the scores chose among: ``attention``, ``mlp`` or
    ``block``. ``model`` identifies the checkpoint that the plan was made for.
    """

    model: ModelIdentity
    drop: tuple[int, ...]
    criterion: str | None = None
    scores: Scores | None = None
    protect: tuple[int, ...] = ()
    previous: Plan | None = None
    version: str = ""
    drop_mlp: tuple[int, ...] = ()
    kind: str = ATTENTION

    @property
    def removal(self) -> Removal:
        """All that is gone when the plan has been carried out."""
        return Removal(self.drop, self.drop_mlp)

    @property
    def added(self) -> Removal:
        """What this plan adds to ``previous``."""
        return self.removal - self.previous.removal if self.previous else self.removal

    @property
    def new(self) -> tuple[int, ...]:
        """The layers whose attention this plan adds to those of ``previous``."""
        return self.added.attention

    def to_json(self) -> dict[str, Any]:
        """JSON of schema 2 where an MLP goes, of schema 1 elsewhere."""
        mlps = {"drop_mlp": list(self.drop_mlp), "kind": self.kind} if self.drop_mlp else {}
        return {
            "schema": PLAN_SCHEMA_2 if self.drop_mlp else PLAN_SCHEMA,
            "drop": list(self.drop),
            **mlps,
            "criterion": self.criterion,
            "protect": list(self.protect),
            "model": self.model.to_json(),
            "scores": self.scores.to_json() if self.scores else None,
            "previous": self.previous.to_json() if self.previous else None,
            "version": self.version,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        mlps = check_schema(data, (PLAN_SCHEMA, PLAN_SCHEMA_2), "a plan") == PLAN_SCHEMA_2
        with readable("a plan"):
            if not mlps and "drop_mlp" in data:
                raise ValueError(f"drop_mlp belongs to {PLAN_SCHEMA_2}")
            return cls(
                model=ModelIdentity.from_json(data["model"]),
                drop=tuple(sorted(set(layers(data["drop"])))),
                criterion=name_or_none(data.get("criterion")),
                scores=Scores.from_json(data["scores"]) if data.get("scores") else None,
                protect=layers(data.get("protect", ())),
                previous=Plan.from_json(data["previous"]) if data.get("previous") else None,
                version=str(data.get("version", "")),
                drop_mlp=tuple(sorted(set(layers(data["drop_mlp"])))) if mlps else (),
                kind=kind_of(data["kind"]) if mlps else ATTENTION,
            )
