"""The loss of a model without some of its sublayers, by running the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from gatenorm.criteria.tokens.sources import Samples, batches
from gatenorm.models.forward import negative_log_likelihood
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records import ATTENTION

# The loss without the sublayers of these layers, in nats per predicted token.
Loss = Callable[[Collection[int]], float]
# The same for several sets at a time, which can then share what they have in common.
Losses = Callable[[Sequence[Collection[int]], Progress | None], list[float]]


def loss_on(model: Model, samples: Samples, kind: str = ATTENTION) -> Loss:
    """The mean negative log-likelihood of the samples, in nats per predicted token, without sublayers of given layers.

    Args:
        kind: which of a layer's sublayers: ``attention``, ``mlp``, or ``block`` for both.

    Raises (when called):
        EvaluationError: logits that are not finite.
    """

    def loss(layers: Collection[int]) -> float:
        with model.without(layers, kind) as less:
            return sum(negative_log_likelihood(less.module, batch) for batch in batches(samples)) / samples.predicted

    return loss
