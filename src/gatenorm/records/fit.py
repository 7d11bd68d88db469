"""How the tensors of fitted operations came about, and what they were held against."""

from gatenorm.records.calibration import CalibrationTokens
from gatenorm.records.edit import Layer, Sublayer
from gatenorm.records.serialization import Value


class Divergence(Value, frozen=True, kw_only=True):
    """What an edit does to predictions: the mean ``KL(unedited || edited)`` over held-out tokens, in nats a token.

    Attributes:
        source: where those tokens come from. Of a source that was fitted on, the maps judged here were fitted on the
            others only, where there are any.
        removed: with the sublayers removed.
        replaced: with the fitted operation in their place.
    """

    source: str
    removed: float
    replaced: float

    @property
    def better(self) -> bool:
        """Whether the fitted operation does less damage than removal."""
        return self.replaced < self.removed


class FitOutcome(Value, frozen=True, kw_only=True):
    """What became of one operation that was to be fitted.

    Attributes:
        operation: what was asked for; ``kept`` is false where removal did less damage, and took its place.
        ridge: as a share of the mean diagonal of the inputs' second moments; ``None`` where the fit needs none.
        scale: what the fitted update was multiplied by.
        unexplained: the share of the updates' squares that is left on held-out tokens; removal leaves 1.
        divergences: with this one edit alone.
    """

    layer: Layer
    sublayer: Sublayer
    operation: str
    kept: bool
    ridge: float | None
    scale: float
    unexplained: float
    divergences: tuple[Divergence, ...]


class FitSource(Value, frozen=True, kw_only=True):
    """Tokens that were looked at: how many were fitted on (none of those that only judge), how many were held out, and
    how they came about.
    """

    name: str
    tokens: int
    held_out: int
    protocol: CalibrationTokens

    @property
    def judged_on(self) -> str:
        """For people: how those tokens were seen by what was judged on them."""
        return f"{self.name}, held out" if self.tokens else f"{self.name}, not fitted on"


class FitRecord(Value, frozen=True, kw_only=True):
    """A fit of all new edits of a plan.

    Attributes:
        divergences: with all edits together; none where the model was never in memory as a whole.
        seconds: of the passes, the solutions and the judgement; drawing the tokens is apart.
    """

    sources: tuple[FitSource, ...]
    edits: tuple[FitOutcome, ...]
    divergences: tuple[Divergence, ...]
    seconds: float

    @property
    def fitted_on(self) -> str:
        """For people: the tokens that were fitted on."""
        return " and ".join(f"{one.tokens:,} tokens of {one.name}" for one in self.sources if one.tokens)

    @property
    def judged_on(self) -> dict[str, str]:
        """For people: what each source of ``divergences`` was to the maps judged on it."""
        return {one.name: one.judged_on for one in self.sources}
