"""What a curve is made of: a line for every ranking, perplexity and whatever else by number of removed sublayers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatenorm.records import Diagnostic, ModelIdentity, check_schema, from_json, to_json
from gatenorm.records.validation import layers, readable, score, whole

CURVE_SCHEMA = "gatenorm/curve/1"
_OF_A_POINT = ("removed", "layers", "perplexity")


@dataclass(frozen=True)
class Line:
    """One ranking's perplexities, by number of removed sublayers, and the layers that each number means, weakest first.

    ``figures`` holds what else was measured, by name and number: ``accuracy`` is the mean over the tasks,
    ``prefill_speedup`` and ``decode_speedup`` are over the whole model, ``task.figure`` is what one task gave.
    """

    name: str
    removed: Mapping[int, tuple[int, ...]]
    perplexity: Mapping[int, float]
    figures: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        points = [
            {"removed": n, "layers": list(self.removed[n]), "perplexity": self.perplexity[n]}
            | {name: values[n] for name, values in self.figures.items()}
            for n in sorted(self.perplexity)
        ]
        return {"name": self.name, "points": points}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Line:
        points = {whole(point["removed"]): point for point in data["points"]}
        named = dict.fromkeys(key for point in points.values() for key in point if key not in _OF_A_POINT)
        return cls(
            name=str(data["name"]),
            removed={n: layers(point["layers"]) for n, point in points.items()},
            perplexity={n: score(point["perplexity"]) for n, point in points.items()},
            figures={str(key): {n: float(point[key]) for n, point in points.items()} for key in named},
        )


@dataclass(frozen=True)
class Curve:
    """Lines of the rankings, those of the random draws, and what they warn of.

    ``protocol`` and ``data`` are perplexity's; ``measured`` says by name how everything else was measured.
    """

    model: ModelIdentity
    lines: tuple[Line, ...]
    band: tuple[Line, ...]
    warnings: tuple[Diagnostic, ...]
    protocol: Mapping[str, Any]
    data: Mapping[str, Any]
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(sorted(self.lines[0].perplexity))

    def has(self, figure: str) -> bool:
        """Whether every ranking was measured by this figure."""
        return all(figure in line.figures for line in self.lines)

    def spread(self) -> dict[int, tuple[float, float, float]]:
        """Least, geometric mean and largest perplexity of the random draws, by number of removed sublayers."""
        found = {}
        for count in self.counts if self.band else ():
            values = [line.perplexity[count] for line in self.band]
            mean = math.exp(math.fsum(map(math.log, values)) / len(values))
            found[count] = (min(values), mean, max(values))
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": CURVE_SCHEMA,
            "model": to_json(self.model),
            "lines": [line.to_json() for line in self.lines],
            "random": [line.to_json() for line in self.band],
            "warnings": [warning.to_json() for warning in self.warnings],
            "protocol": dict(self.protocol),
            "data": dict(self.data),
            "measured": dict(self.measured),
            "seconds": self.seconds,
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Curve:
        check_schema(data, CURVE_SCHEMA, "a curve")
        with readable("a curve"):
            lines = tuple(Line.from_json(line) for line in data["lines"])
            if not lines:
                raise ValueError("no line")
            return cls(
                model=from_json(ModelIdentity, data["model"], "a curve"),
                lines=lines,
                band=tuple(Line.from_json(line) for line in data["random"]),
                warnings=tuple(Diagnostic.from_json(warning) for warning in data["warnings"]),
                protocol=dict(data["protocol"]),
                data=dict(data["data"]),
                seconds=float(data["seconds"]),
                versions={str(k): str(v) for k, v in data["versions"].items()},
                measured=dict(data["measured"]),
            )
