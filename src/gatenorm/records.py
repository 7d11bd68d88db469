"""What travels between the steps: small frozen records with versioned JSON, and nothing else.

``scores.json`` holds :class:`Scores`, ``plan.json`` and the ``gatenorm.json`` of every pruned directory hold a
:class:`Plan`, measurements are :class:`Evidence`. A schema version that this release does not know is refused by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatenorm.errors import PlanError

SCORES_SCHEMA = "gatenorm/scores/1"
PLAN_SCHEMA = "gatenorm/plan/1"
EVIDENCE_SCHEMA = "gatenorm/evidence/1"
WARNING_SCHEMA = "gatenorm/warning/1"


@dataclass(frozen=True)
class ModelIdentity:
    """Which checkpoint a record speaks of.

    ``config_sha256`` is the hash of ``config.json`` as it lies on disk, ``files`` the size in bytes of every weight
    file, ``sample_sha256`` the hash of a few kilobytes spread over them: the first two are equal for a base model and
    its fine-tunes, the last is not. Nothing here proves that every weight is the same.
    """

    name: str
    model_type: str
    layers: int
    config_sha256: str
    files: Mapping[str, int]
    sample_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model_type": self.model_type,
            "layers": self.layers,
            "config_sha256": self.config_sha256,
            "files": dict(self.files),
            "sample_sha256": self.sample_sha256,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelIdentity:
        return cls(
            name=str(data["name"]),
            model_type=str(data["model_type"]),
            layers=_whole(data["layers"]),
            config_sha256=str(data["config_sha256"]),
            files={str(k): _whole(v) for k, v in data["files"].items()},
            sample_sha256=str(data.get("sample_sha256", "")),
        )

    def same_weights(self, other: ModelIdentity) -> bool:
        """Whether both speak of the same checkpoint, wherever it lies and whatever its folder is called."""
        # A checkpoint that was only looked at from afar has no sample.
        same_sample = not (self.sample_sha256 and other.sample_sha256) or self.sample_sha256 == other.sample_sha256
        return same_sample and (self.config_sha256, dict(self.files)) == (other.config_sha256, dict(other.files))


@dataclass(frozen=True)
class LayerScore:
    """One layer's score; ``heads`` holds the per-head values of criteria that are made of them."""

    layer: int
    score: float
    heads: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scores:
    """What a criterion says of every attention sublayer that is there; a low score means: remove first.

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

    @property
    def ranking(self) -> tuple[int, ...]:
        """Layer indices from weakest to strongest; of equal scores the later layer counts as the weaker."""
        return tuple(s.layer for s in sorted(self.layers, key=lambda s: (s.score, -s.layer)))

    def to_json(self) -> dict[str, Any]:
        layers = [
            {"layer": s.layer, "score": s.score, **({"heads": list(s.heads)} if s.heads else {})} for s in self.layers
        ]
        return {
            "schema": SCORES_SCHEMA,
            "model": self.model.to_json(),
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
        check_schema(data, SCORES_SCHEMA, "scores")
        with _readable("scores"):
            layers = tuple(
                LayerScore(_whole(s["layer"]), _score(s["score"]), tuple(_score(h) for h in s.get("heads", ())))
                for s in data["layers"]
            )
            if len({s.layer for s in layers}) != len(layers):
                raise ValueError("a layer has two scores")
            return cls(
                model=ModelIdentity.from_json(data["model"]),
                criterion=str(data["criterion"]),
                layers=layers,
                seconds=float(data["seconds"]),
                bytes_read=_whole(data["bytes_read"]),
                notes=tuple(str(n) for n in data.get("notes", ())),
                seed=None if data.get("seed") is None else _whole(data["seed"]),
                version=str(data.get("version", "")),
                calibration=None if data.get("calibration") is None else dict(data["calibration"]),
            )


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
        with _readable("a plan"):
            return cls(
                model=ModelIdentity.from_json(data["model"]),
                drop=tuple(sorted(set(_layers(data["drop"])))),
                criterion=_name_or_none(data.get("criterion")),
                scores=Scores.from_json(data["scores"]) if data.get("scores") else None,
                protect=_layers(data.get("protect", ())),
                previous=Plan.from_json(data["previous"]) if data.get("previous") else None,
                version=str(data.get("version", "")),
            )


@dataclass(frozen=True)
class Evidence:
    """One measurement with everything that is needed to repeat it and to doubt it.

    ``figures`` are the measured numbers by name, ``protocol`` how they were taken (window, BOS, tokens, dtype, ...),
    ``data`` what they were taken on (name, sha256, bytes), ``versions`` the software that took them. ``items`` holds
    what was found on each single item, where figures of two models are to be compared item by item.
    """

    kind: str
    model: ModelIdentity
    removed: tuple[int, ...]
    figures: Mapping[str, float]
    protocol: Mapping[str, Any]
    data: Mapping[str, Any]
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)
    items: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": EVIDENCE_SCHEMA,
            "kind": self.kind,
            "model": self.model.to_json(),
            "removed": list(self.removed),
            "figures": dict(self.figures),
            "protocol": dict(self.protocol),
            "data": dict(self.data),
            "seconds": self.seconds,
            "versions": dict(self.versions),
            **({"items": [dict(item) for item in self.items]} if self.items else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        check_schema(data, EVIDENCE_SCHEMA, "evidence")
        with _readable("evidence"):
            return cls(
                kind=str(data["kind"]),
                model=ModelIdentity.from_json(data["model"]),
                removed=_layers(data["removed"]),
                figures={str(k): float(v) for k, v in data["figures"].items()},
                protocol=dict(data["protocol"]),
                data=dict(data["data"]),
                seconds=float(data["seconds"]),
                versions={str(k): str(v) for k, v in data.get("versions", {}).items()},
                items=tuple(dict(item) for item in data.get("items", ())),
            )


@dataclass(frozen=True)
class FailureSignature:
    """Something seen that makes a ranking or a removal doubtful: its ``kind``, a line for people, and what it rests on.

    ``evidence`` holds the figures that were compared, and the limits that they were compared with.
    """

    kind: str
    message: str
    evidence: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": WARNING_SCHEMA,
            "kind": self.kind,
            "message": self.message,
            "evidence": dict(self.evidence),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FailureSignature:
        check_schema(data, WARNING_SCHEMA, "a warning")
        with _readable("a warning"):
            return cls(kind=str(data["kind"]), message=str(data["message"]), evidence=dict(data["evidence"]))


class _readable:  # noqa: N801 - reads as a statement: `with _readable("a plan"):`
    """Turns a missing or ill-typed field of a record into one line that names it."""

    def __init__(self, what: str):
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, KeyError):
            raise PlanError(f"{self.what} lacks the field {error.args[0]!r}: was the file cut or edited?") from error
        if isinstance(error, (TypeError, ValueError, AttributeError, OverflowError)):
            raise PlanError(f"{self.what} holds a field of the wrong type ({error}): was the file edited?") from error


def _whole(given: Any) -> int:
    if type(given) is int and given >= 0:
        return given
    raise ValueError(f"{given!r:.40} is no whole number")  # int(1.5) would be layer 1


def _layers(given: Any) -> tuple[int, ...]:
    if not isinstance(given, (list, tuple)):
        raise ValueError(f"{given!r:.40} is no list of layers")  # "12" would be layers 1 and 2
    return tuple(_whole(i) for i in given)


def _score(given: Any) -> float:
    if isinstance(given, (int, float)) and not isinstance(given, bool) and not math.isnan(given):
        return float(given)
    raise ValueError(f"the score {given!r:.40} is no number")  # NaN has no place in a ranking


def _name_or_none(given: Any) -> str | None:
    if given is None or isinstance(given, str):
        return given
    raise ValueError(f"{given!r:.40} is no name")


def check_schema(data: Mapping[str, Any], expected: str, what: str) -> None:
    """Refuse JSON that is not ``expected``, by name.

    Raises:
        PlanError: another schema, another version of this one, or no JSON object at all.
    """
    given = data.get("schema") if isinstance(data, Mapping) else None
    if given != expected:
        raise PlanError(f"this is not {what} that this release can read: schema {given!r}, expected {expected!r}")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in ``path``; ``what`` names it in errors.

    Raises:
        PlanError: no such file, not JSON, or not an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(f"{what}: there is no file {path}") from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, a number of 5,000 digits
        raise PlanError(f"{what}: {path} is not readable JSON ({error})") from None
    if not isinstance(data, dict):
        raise PlanError(f"{what}: {path} holds {type(data).__name__}, expected a JSON object")
    return data


def spans(indices: Sequence[int]) -> str:
    """Layer indices for people: ``0, 4-6, 9``."""
    parts: list[str] = []
    ordered = sorted(indices)
    start = 0
    for end in range(len(ordered)):
        if end + 1 == len(ordered) or ordered[end + 1] != ordered[end] + 1:
            run = ordered[start : end + 1]
            parts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(i) for i in run]
            start = end + 1
    return ", ".join(parts) or "none"
