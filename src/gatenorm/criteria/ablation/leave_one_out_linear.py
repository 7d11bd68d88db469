"""The change of predictions when a fitted linear map takes one attention's place."""

from __future__ import annotations

from gatenorm.criteria.criterion import ForwardCriterion, Measured, Run
from gatenorm.fitting.fit import divergence_of_each
from gatenorm.records import ATTENTION, Edits


def _measure(run: Run) -> Measured:
    """``KL(unedited || edited)`` by layer, in nats per predicted token, on sequences that the maps have not seen.

    Source: docs/replace.md; what a replacement leaves of the damage decides, not what removal does.
    """
    edits = Edits.of(ATTENTION, run.layers, "linear")
    found = divergence_of_each(run.model, edits, run.samples, run.progress)
    stated = {"score": "divergence in nats per predicted token with a linear map in the attention's place"}
    return Measured({edit.layer: value for edit, value in found.items()}, stated)


CRITERION = ForwardCriterion(
    summary="change of predictions when a fitted linear map takes this attention's place",
    measure=_measure,
)
