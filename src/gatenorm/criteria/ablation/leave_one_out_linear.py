"""The change of predictions when a fitted linear map takes one attention's place."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gatenorm.criteria.criterion import ForwardCriterion, Losses, Measured, Run
from gatenorm.fitting.fit import fitted_divergence
from gatenorm.progress import Progress, half_of
from gatenorm.records import ATTENTION, Edits

_OPERATION = "linear"


def with_maps(run: Run) -> Losses:
    """What fitted maps in the attentions' place do to predictions, for any sets of the layers to score.

    One pass, the first half of the run's progress, fits all maps; the same maps serve every set.

    Returns:
        A function from sets of layers to ``KL(unedited || edited)``, in nats per predicted token, on sequences that
        the maps have not seen.
    """
    every = Edits.of(ATTENTION, run.layers, _OPERATION)
    figures = fitted_divergence(run.model, every, run.samples, half_of(run.progress))

    def losses(sets: Sequence[Collection[int]], progress: Progress | None = None) -> list[float]:
        return figures([Edits.of(ATTENTION, layers, _OPERATION) for layers in sets], progress)

    return losses


def _measure(run: Run) -> Measured:
    """``KL(unedited || edited)`` by layer, in nats per predicted token, on sequences that the maps have not seen.

    Source: docs/replace.md; what a replacement leaves of the damage decides, not what removal does.
    """
    found = with_maps(run)([(layer,) for layer in run.layers], half_of(run.progress, second=True))
    stated = {"score": "divergence in nats per predicted token with a linear map in the attention's place"}
    return Measured(dict(zip(run.layers, found, strict=True)), stated)


CRITERION = ForwardCriterion(
    summary="change of predictions when a fitted linear map takes this attention's place",
    measure=_measure,
)
