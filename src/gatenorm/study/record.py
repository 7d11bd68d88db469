"""What a recipe gave: figures by name, scores, and what became of each claim."""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from gatenorm.records import ModelIdentity, Scores
from gatenorm.records.curve import Line
from gatenorm.records.evidence import Figure
from gatenorm.records.serialization import Record, Value
from gatenorm.records.table import Row

# The ranking of a figure that is the mean of random draws.
RANDOM = "random"
Verdict = Literal["holds", "does not hold", "inconclusive", "not measured", "not comparable"]


class Judged(Value, frozen=True, kw_only=True):
    """A claim, what the paper reports, what was found here, and the verdict with its reason."""

    says: str
    paper: str
    figure: str
    ours: Figure | None
    verdict: Verdict
    why: str


class Part(Value, frozen=True, kw_only=True):
    """One measurement of a recipe: what, of how many models, how long it took; ``kept`` were there already.

    ``protocol`` is how it was taken.
    """

    what: str
    runs: int
    kept: int = 0
    seconds: float = 0.0
    protocol: dict[str, Any] = msgspec.field(default_factory=dict)


class Reproduction(Record, frozen=True, kw_only=True, tag="gatenorm/reproduction/1"):
    """A recipe carried out on a model.

    ``figures`` are named ``what/ranking/count``. ``stand_in`` says of which model this one takes the place; then
    figures of the paper are not compared. ``lines`` and ``band`` are perplexities by count, for drawing.
    """

    name: str
    title: str
    source: str
    model: ModelIdentity
    figures: dict[str, Figure]
    claims: tuple[Judged, ...]
    parts: tuple[Part, ...]
    scores: dict[str, Scores] = msgspec.field(default_factory=dict)
    lines: tuple[Line, ...] = ()
    band: tuple[Line, ...] = ()
    plot: str | None = None
    stand_in: str = ""
    data: dict[str, str] = msgspec.field(default_factory=dict)
    versions: dict[str, str] = msgspec.field(default_factory=dict)

    def rows(self) -> Iterator[Row]:
        """A row for each figure."""
        for name, figure in self.figures.items():
            what, ranking, at = split(name)
            about = {"what": what, "ranking": ranking, "at": at}
            yield {**about, "value": figure.value, "low": figure.low, "high": figure.high}


def split(name: str) -> tuple[str, str, str]:
    """What a figure is, of which ranking, and at what."""
    what, _, rest = name.partition("/")
    ranking, _, at = rest.rpartition("/")
    return what, ranking, at
