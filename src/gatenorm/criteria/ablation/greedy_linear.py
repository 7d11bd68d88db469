"""The order in which fitted linear maps in the attentions' place change predictions least."""

from gatenorm.criteria.ablation.leave_one_out_linear import with_maps
from gatenorm.criteria.ablation.perplexity_greedy import greedy
from gatenorm.criteria.criterion import ForwardCriterion, Measured, Run
from gatenorm.fitting.fit import HELD_OUT
from gatenorm.progress import half_of


def _measure(run: Run) -> Measured:
    """The step at which each attention is replaced; each step replaces the one after which predictions, with all maps
    chosen so far in place, are nearest to the unedited model's: the least ``KL(unedited || edited)`` on sequences that
    the maps have not seen.

    All maps come from one pass of the unedited model. After half of the layers, beyond which nobody replaces, the rest
    is ranked as the last step ranks it: about ``3/8 L^2`` evaluations for ``L`` layers.

    Source: docs/replace.md; the search is SLEB's (arXiv 2402.09025).
    """
    steps = (len(run.layers) + 1) // 2
    path = greedy(with_maps(run), run.layers, steps, half_of(run.progress, second=True))
    return Measured(path.steps, "the step at which a linear map takes its place", (path.whole, *path.losses))


CRITERION = ForwardCriterion(
    summary="the order in which fitted linear maps in the attentions' place change predictions least",
    passes=lambda layers: 1 + 3 / 8 * layers**2 / HELD_OUT,
    measure=_measure,
)
