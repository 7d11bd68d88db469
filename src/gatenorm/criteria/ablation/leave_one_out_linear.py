"""The change of predictions when a fitted linear map takes one attention's place, or one MLP is removed."""

from collections.abc import Collection, Sequence

from gatenorm.criteria.criterion import ForwardCriterion, Losses, Measured, Run
from gatenorm.fitting.fit import HELD_OUT, fitted_divergence
from gatenorm.progress import Progress, half_of
from gatenorm.records import ATTENTION, MLP, REMOVE, Edits


def with_maps(run: Run) -> Losses:
    """What fitted maps in the attentions' place do to predictions, for any sets of the layers to score; MLPs, whose
    place no map takes, are removed.

    One pass, the first half of the run's progress, fits all maps; the same maps serve every set.

    Returns:
        A function from sets of layers to ``KL(unedited || edited)``, in nats per predicted token, on sequences that
        the maps have not seen.
    """
    operation = "linear" if run.kind == ATTENTION else REMOVE
    figures = fitted_divergence(
        run.model, Edits.of(run.kind, run.layers, operation), run.samples, half_of(run.progress)
    )

    def losses(sets: Sequence[Collection[int]], progress: Progress | None = None) -> list[float]:
        return figures([Edits.of(run.kind, layers, operation) for layers in sets], progress)

    return losses


def _measure(run: Run) -> Measured:
    """``KL(unedited || edited)`` by layer, in nats per predicted token, on sequences that the maps have not seen.

    Source: docs/replace.md; what a replacement leaves of the damage decides, not what removal does.
    """
    found = with_maps(run)([(layer,) for layer in run.layers], half_of(run.progress, second=True))
    edited = "with a linear map in the attention's place" if run.kind == ATTENTION else "without the MLP"
    return Measured(dict(zip(run.layers, found, strict=True)), f"divergence in nats per predicted token {edited}")


CRITERION = ForwardCriterion(
    summary="change of predictions when a fitted linear map takes this attention's place, or this MLP goes",
    kinds=(ATTENTION, MLP),
    damage=True,
    # One fits, and edits are judged on the held-out sequences alone.
    passes=lambda layers: 1 + layers / HELD_OUT,
    measure=_measure,
)
