"""Log-likelihoods of continuations, and greedy continuations, by the engine that a model is open in."""

from collections.abc import Sequence

from gatenorm.engines import LikelyContinuation, engine_named
from gatenorm.models.model import Model
from gatenorm.progress import Progress


def continuations(
    model: Model, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], progress: Progress | None = None
) -> list[LikelyContinuation]:
    """As :meth:`gatenorm.engines.Engine.likelihoods`.

    Raises:
        EvaluationError: as there, or an engine that cannot do this.
    """
    return engine_named(model.engine, "predicts").likelihoods(model, pairs, progress)


def greedy(
    model: Model, prompts: Sequence[Sequence[int]], new_tokens: int, progress: Progress | None = None
) -> list[list[int]]:
    """As :meth:`gatenorm.engines.Engine.generate`.

    Raises:
        EvaluationError: as there, or an engine that cannot do this.
    """
    return engine_named(model.engine, "generates").generate(model, prompts, new_tokens, progress)
