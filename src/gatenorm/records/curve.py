"""A curve: a line for every ranking, perplexity and other figures by number of removed sublayers."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from gatenorm.records.edit import Layer
from gatenorm.records.evidence import Data, Diagnostic, Measured, Measurements, Speed, TextProtocol, of_type
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.serialization import Record, Value
from gatenorm.records.table import Row


class Point(Value, frozen=True, omit_defaults=True):
    """What is left without the attention of ``layers``, the weakest first.

    ``records`` are what was measured beside perplexity, without their items: tasks, speed, functions of the model. Of
    which model, without which layers and by which software they are, the curve and the point say.
    """

    layers: tuple[Layer, ...]
    perplexity: float
    records: Measurements = Measurements()

    def __post_init__(self) -> None:
        if math.isnan(self.perplexity):
            raise ValueError("the perplexity is not a number")

    @property
    def accuracy(self) -> float | None:
        """The mean of the tasks' shares of right answers; ``None`` where none of them has one."""
        shares = [record.numbers()[record.headline] for record in self.records if record.headline]
        return sum(shares) / len(shares) if shares else None

    @property
    def speed(self) -> Speed | None:
        """Timed in turns with the whole model, where it was."""
        return next(iter(of_type(self.records, Speed)), None)

    def numbers(self) -> Mapping[str, float]:
        """All numbers but perplexity: ``accuracy``, those of a task as ``task.figure``, speed, functions by name."""
        numbers = {} if self.accuracy is None else {"accuracy": self.accuracy}
        for record in self.records:
            task = "" if isinstance(record, (Measured, Speed)) else f"{record.task or record.kind}."
            numbers |= {f"{task}{name}": value for name, value in record.numbers().items()}
        timed = {"prefill": self.speed.prefill, "decode": self.speed.decode} if self.speed else {}
        for phase, took in timed.items():
            if took.speedup is not None:
                numbers |= {f"{phase}_speedup_low": took.speedup.low, f"{phase}_speedup_high": took.speedup.high}
        return numbers


class Line(Value, frozen=True):
    """One ranking's points, those with the fewest removals first."""

    name: str
    points: tuple[Point, ...]

    @property
    def at(self) -> dict[int, Point]:
        """By number of removed sublayers."""
        return {len(point.layers): point for point in self.points}

    @property
    def removed(self) -> dict[int, tuple[int, ...]]:
        """The removed layers by their number."""
        return {count: point.layers for count, point in self.at.items()}

    @property
    def perplexity(self) -> dict[int, float]:
        """By number of removed sublayers."""
        return {count: point.perplexity for count, point in self.at.items()}


class Curve(Record, frozen=True, tag="gatenorm/curve/2"):
    """Lines of the rankings, a band of random ones, and what they warn of; ``protocol`` and ``data`` are perplexity's.

    What else was measured was so at every point of the lines.
    """

    model: ModelIdentity
    lines: tuple[Line, ...]
    band: tuple[Line, ...]
    warnings: tuple[Diagnostic, ...]
    protocol: TextProtocol
    data: Data
    seconds: float
    versions: dict[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.lines:
            raise ValueError("there is no line")

    def rows(self) -> Iterator[Row]:
        """A row for each point of each line, those of random draws last."""
        for line in (*self.lines, *self.band):
            for point in line.points:
                about = {"ranking": line.name, "removed": len(point.layers), "perplexity": point.perplexity}
                yield about | dict(point.numbers())

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(sorted(self.lines[0].perplexity))

    @property
    def records(self) -> Measurements:
        """What was measured beside perplexity, of the first point."""
        return self.lines[0].points[0].records

    @property
    def judged(self) -> bool:
        """Whether tasks say how many answers are right."""
        return all(point.accuracy is not None for line in self.lines for point in line.points)

    @property
    def speed(self) -> Speed | None:
        """How speed was measured, where it was: the first point's."""
        return self.lines[0].points[0].speed


def spread(drawn: Sequence[Line]) -> dict[int, tuple[float, float, float]]:
    """The extent of the perplexities of random draws, by number of removed sublayers."""
    counts = sorted(drawn[0].perplexity) if drawn else ()
    return {count: extent([line.perplexity[count] for line in drawn]) for count in counts}


def extent(perplexities: Sequence[float]) -> tuple[float, float, float]:
    """The least, the geometric mean, and the largest."""
    return min(perplexities), statistics.geometric_mean(perplexities), max(perplexities)
