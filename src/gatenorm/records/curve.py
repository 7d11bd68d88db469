"""A curve: a line for every ranking, perplexity and other figures by number of removed sublayers."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gatenorm.records.edit import Layer
from gatenorm.records.evidence import Diagnostic
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.serialization import Record, Value
from gatenorm.records.table import Row


class Point(Value, frozen=True, omit_defaults=True):
    """What is left without the attention of ``layers``, the weakest first.

    Among ``figures`` by name, ``accuracy`` is the mean over the tasks, ``prefill_speedup`` and ``decode_speedup`` are
    over the whole model, and ``task.figure`` is one task's own.
    """

    layers: tuple[Layer, ...]
    perplexity: float
    figures: dict[str, float] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if math.isnan(self.perplexity):
            raise ValueError("the perplexity is not a number")


class Line(Value, frozen=True):
    """One ranking's points, those with the fewest removals first."""

    name: str
    points: tuple[Point, ...]

    @property
    def removed(self) -> dict[int, tuple[int, ...]]:
        """The removed layers by their number."""
        return {len(point.layers): point.layers for point in self.points}

    @property
    def perplexity(self) -> dict[int, float]:
        """By number of removed sublayers."""
        return {len(point.layers): point.perplexity for point in self.points}

    @property
    def figures(self) -> dict[str, dict[int, float]]:
        """By name and number of removed sublayers."""
        names = self.points[0].figures if self.points else ()
        return {name: {len(point.layers): point.figures[name] for point in self.points} for name in names}


class Curve(Record, frozen=True, tag="gatenorm/curve/1"):
    """Lines of the rankings, a band of random ones, and what they warn of.

    ``protocol`` and ``data`` are perplexity's; ``measured`` says by name how everything else was measured.
    """

    model: ModelIdentity
    lines: tuple[Line, ...]
    band: tuple[Line, ...]
    warnings: tuple[Diagnostic, ...]
    protocol: dict[str, Any]
    data: dict[str, Any]
    seconds: float
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    measured: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.lines:
            raise ValueError("there is no line")

    def rows(self) -> Iterator[Row]:
        """A row for each point of each line, those of random draws last."""
        for line in (*self.lines, *self.band):
            for point in line.points:
                about = {"ranking": line.name, "removed": len(point.layers), "perplexity": point.perplexity}
                yield about | point.figures

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(sorted(self.lines[0].perplexity))

    def has(self, figure: str) -> bool:
        """Whether every ranking was measured by this figure."""
        return all(figure in line.figures for line in self.lines)

    def spread(self) -> Mapping[int, tuple[float, float, float]]:
        """Least, geometric mean and largest perplexity of the random draws, by number of removed sublayers."""
        spreads = {}
        for count in self.counts if self.band else ():
            values = [line.perplexity[count] for line in self.band]
            mean = math.exp(math.fsum(map(math.log, values)) / len(values))
            spreads[count] = (min(values), mean, max(values))
        return spreads
