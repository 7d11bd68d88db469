"""What a criterion says of every layer: ``scores.json``."""

import math
from collections.abc import Collection, Iterator

import msgspec

from gatenorm.records.calibration import CalibrationRun
from gatenorm.records.edit import ATTENTION, Kind, Layer
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.serialization import Record, Value
from gatenorm.records.table import Row

# The relative error of scores: that of the least exact backend, where weights are rounded to bfloat16 for a product.
ERROR = 4e-5


class LayerScore(Value, frozen=True, omit_defaults=True):
    """One layer's score; ``heads`` holds the per-head values of criteria that are made of them."""

    layer: Layer
    score: float
    heads: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if any(map(math.isnan, (self.score, *self.heads))):
            raise ValueError(f"layer {self.layer} has the score NaN, which cannot be ranked")


class Scores(Record, frozen=True, tag="gatenorm/scores/1"):
    """What a criterion says of every sublayer of one ``kind`` in a model; a low score means: remove first.

    ``calibration`` says which tokens a criterion that runs the model has seen, and how; weight-only criteria have none.
    ``ranking`` follows from the scores: layers from weakest to strongest; of equal scores the later layer is weaker.
    """

    model: ModelIdentity
    criterion: str
    layers: tuple[LayerScore, ...]
    seconds: float
    bytes_read: int
    notes: tuple[str, ...] = ()
    seed: int | None = None
    version: str = ""
    calibration: CalibrationRun | None = None
    kind: Kind = ATTENTION
    ranking: tuple[Layer, ...] = ()

    def __post_init__(self) -> None:
        ranking = tuple(s.layer for s in sorted(self.layers, key=lambda s: (s.score, -s.layer)))
        if len({*ranking}) != len(ranking):
            raise ValueError("a layer has two scores")
        if self.ranking not in ((), ranking):
            raise ValueError("the ranking is not that of the scores")
        msgspec.structs.force_setattr(self, "ranking", ranking)

    @property
    def by_layer(self) -> dict[int, float]:
        """The scores by original layer number."""
        return {one.layer: one.score for one in self.layers}

    def weakest(self, count: int, protect: Collection[int] = ()) -> list[int]:
        """The ``count`` weakest layers that are not protected, weakest first."""
        return [layer for layer in self.ranking if layer not in protect][:count]

    @property
    def ties(self) -> tuple[tuple[Layer, ...], ...]:
        """Layers, weakest first, between which the scores do not decide: neighbours within :data:`ERROR` of each other.

        Of these the ranking is as good as drawn.
        """
        by_layer, found = self.by_layer, [[*self.ranking[:1]]]
        for layer in self.ranking[1:]:
            low, high = by_layer[found[-1][-1]], by_layer[layer]
            if high - low <= ERROR * max(abs(low), abs(high)):
                found[-1].append(layer)
            else:
                found.append([layer])
        return tuple(tuple(group) for group in found if len(group) > 1)

    def rows(self) -> Iterator[Row]:
        """A row for each layer; rank 1 is removed first."""
        rank = {layer: n for n, layer in enumerate(self.ranking, 1)}
        for one in self.layers:
            yield {"layer": one.layer, "score": one.score, "rank": rank[one.layer]}

    def subject(self) -> str:
        """``demo by gate-norm``."""
        return f"{self.model.name} by {self.criterion}"
