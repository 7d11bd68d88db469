"""How far rankings of the same layers agree, and both sides of the bound that gate norms rest on."""

import math
from collections.abc import Iterator

from gatenorm.records.calibration import CalibrationTokens
from gatenorm.records.edit import Edit, Layer
from gatenorm.records.evidence import Diagnostic
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.scores import Scores
from gatenorm.records.serialization import Record, Value
from gatenorm.records.table import Row

# exp(2 B) - 1 reaches 2 here.
VACUOUS_FROM = math.log(3) / 2


class Overlap(Value, frozen=True):
    """The layers that both rankings count among their ``count`` weakest; ``chance`` would give two random ones."""

    share: float
    count: int
    shared: tuple[Layer, ...]
    chance: float


class Agreement(Value, frozen=True):
    """Two rankings side by side; a correlation is ``None`` where one of them gives all layers the same score."""

    first: str
    second: str
    spearman: float | None
    kendall: float | None
    overlaps: tuple[Overlap, ...]

    def row(self) -> Row:
        """Both names, both correlations, and the number of layers shared at each budget."""
        shared = {f"shared of {overlap.count}": len(overlap.shared) for overlap in self.overlaps}
        return {"first": self.first, "second": self.second, "spearman": self.spearman, "kendall": self.kendall} | shared


class Dispute(Value, frozen=True):
    """The layers that only one of two criteria would remove at the budget."""

    check: str
    only_scores: tuple[Layer, ...]
    only_check: tuple[Layer, ...]


class CrossCheck(Record, frozen=True, tag="gatenorm/cross-check/1"):
    """A scoring, the data-free scorings that it was compared with, and where they differ at a budget of ``count``."""

    scores: Scores
    checks: tuple[Scores, ...]
    count: int
    agreements: tuple[Agreement, ...]
    disputes: tuple[Dispute, ...]
    warnings: tuple[Diagnostic, ...]

    def rows(self) -> Iterator[Row]:
        """A row for each two rankings."""
        return (agreement.row() for agreement in self.agreements)

    def subject(self) -> str:
        """What the scores are of."""
        return self.scores.subject()


class LayerBound(Value, frozen=True):
    """Both sides for every head of a layer: ``deviation`` was seen, ``limit`` is what the bound allows.

    ``logits`` is ``B``, the largest logit that the norms allow.
    """

    layer: Layer
    deviation: tuple[float, ...]
    limit: tuple[float, ...]
    logits: tuple[float, ...]

    @property
    def vacuous(self) -> int:
        """In how many heads the bound says nothing."""
        return sum(b >= VACUOUS_FROM for b in self.logits)

    @property
    def looseness(self) -> tuple[float, float]:
        """The least and the largest of ``limit / deviation`` over the heads."""
        ratios = [limit / max(seen, 1e-300) for seen, limit in zip(self.deviation, self.limit, strict=True)]
        return min(ratios), max(ratios)


class Bound(Value, frozen=True):
    """The bound on every layer, and the tokens that it was taken on."""

    layers: tuple[LayerBound, ...]
    protocol: CalibrationTokens


class SublayerCost(Value, frozen=True, kw_only=True):
    """One edit: what it damages, on the criterion's scale, and the shares of a prefill's and a decoded token's time and
    of the key/value cache that it is predicted to save; below zero where it makes a model slower.
    """

    edit: Edit
    damage: float
    prefill: float
    decode: float
    cache: float

    @property
    def time(self) -> float:
        """The mean share of the time of both phases."""
        return (self.prefill + self.decode) / 2

    @property
    def per_time(self) -> float | None:
        """Damage for a hundredth of the time; ``None`` where none is saved."""
        return self.damage / (100 * self.time) if self.time > 0 else None

    @property
    def per_cache(self) -> float | None:
        """Damage for a hundredth of the cache; ``None`` where none is saved."""
        return self.damage / (100 * self.cache) if self.cache > 0 else None


class SublayerRanking(Record, frozen=True, kw_only=True, tag="gatenorm/sublayer-ranking/1"):
    """Attention and MLP sublayers in one order: least damage for the time saved first, what saves none last.

    ``scores`` are of attentions and ``mlp_scores`` of MLPs, which the damages come from; times are predicted for a
    machine, context and batch.
    """

    sublayers: tuple[SublayerCost, ...]
    scores: Scores
    mlp_scores: Scores
    machine: str
    context: int
    batch: int

    def rows(self) -> Iterator[Row]:
        """A row for each sublayer of both kinds, in the order in which they would be edited."""
        for one in self.sublayers:
            saved = {"prefill": one.prefill, "decode": one.decode, "cache": one.cache}
            ratios = {"damage_per_time": one.per_time, "damage_per_cache": one.per_cache}
            about = {"layer": one.edit.layer, "sublayer": one.edit.sublayer, "operation": one.edit.operation}
            yield {**about, "damage": one.damage, **saved, **ratios}

    def subject(self) -> str:
        """What the scores are of."""
        return self.scores.subject()


class RankingComparison(Record, frozen=True, tag="gatenorm/ranking-comparison/1"):
    """Scorings of one model in the order asked for, the agreement of each two, warnings, and the bound if asked for."""

    model: ModelIdentity
    scores: tuple[Scores, ...]
    agreements: tuple[Agreement, ...]
    warnings: tuple[Diagnostic, ...]
    bound: Bound | None = None

    def rows(self) -> Iterator[Row]:
        """A row for each two rankings."""
        return (agreement.row() for agreement in self.agreements)
