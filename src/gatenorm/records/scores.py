"""What a criterion says of every layer: ``scores.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatenorm.records.identity import ModelIdentity
from gatenorm.records.removal import ATTENTION
from gatenorm.records.validation import check_schema, kind_of, readable, score, whole

SCORES_SCHEMA = "gatenorm/scores/1"
# Of scores of MLPs or blocks, by which a release that knows attention only must not choose.
SCORES_SCHEMA_2 = "gatenorm/scores/2"


@dataclass(frozen=True)
class LayerScore:
    """One layer's score; ``heads`` holds the per-head values of criteria that are made of them."""

    layer: int
    score: float
    heads: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scores:
    """What a criterion says of every sublayer of one ``kind`` that is there; a low score means: remove first.

    ``kind`` is ``attention``, ``mlp``, or ``block`` for both of a layer together.

    ``calibration`` says which tokens a criterion that runs the model has seen, and how; weight-only criteria have none.
    """

    model: ModelIdentity
    criterion: str
    layers: tuple[LayerScore, ...]
    seconds: float
    bytes_read: int
    notes: tuple[str, ...] = ()
    seed: int | None = None
    version: str = ""
    calibration: Mapping[str, Any] | None = None
    kind: str = ATTENTION

    @property
    def ranking(self) -> tuple[int, ...]:
        """Layer indices from weakest to strongest; of equal scores the later layer counts as the weaker."""
        return tuple(s.layer for s in sorted(self.layers, key=lambda s: (s.score, -s.layer)))

    def to_json(self) -> dict[str, Any]:
        layers = [
            {"layer": s.layer, "score": s.score, **({"heads": list(s.heads)} if s.heads else {})} for s in self.layers
        ]
        return {
            "schema": SCORES_SCHEMA if self.kind == ATTENTION else SCORES_SCHEMA_2,
            "model": self.model.to_json(),
            **({"kind": self.kind} if self.kind != ATTENTION else {}),
            "criterion": self.criterion,
            **({"seed": self.seed} if self.seed is not None else {}),
            **({"calibration": dict(self.calibration)} if self.calibration is not None else {}),
            "layers": layers,
            "ranking": list(self.ranking),
            "seconds": self.seconds,
            "bytes_read": self.bytes_read,
            "notes": list(self.notes),
            "version": self.version,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scores:
        other = check_schema(data, (SCORES_SCHEMA, SCORES_SCHEMA_2), "scores") == SCORES_SCHEMA_2
        with readable("scores"):
            layers = tuple(
                LayerScore(whole(s["layer"]), score(s["score"]), tuple(score(h) for h in s.get("heads", ())))
                for s in data["layers"]
            )
            if len({s.layer for s in layers}) != len(layers):
                raise ValueError("a layer has two scores")
            return cls(
                model=ModelIdentity.from_json(data["model"]),
                criterion=str(data["criterion"]),
                layers=layers,
                seconds=float(data["seconds"]),
                bytes_read=whole(data["bytes_read"]),
                notes=tuple(str(n) for n in data.get("notes", ())),
                seed=None if data.get("seed") is None else whole(data["seed"]),
                version=str(data.get("version", "")),
                calibration=None if data.get("calibration") is None else dict(data["calibration"]),
                kind=kind_of(data["kind"]) if other else ATTENTION,
            )
