"""transformers: the reference that the other engines are compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatenorm.engines import Engine, GreedySession, LikelyContinuation, Setting, TimedSession
from gatenorm.models.model import Model
from gatenorm.progress import Progress


class Transformers(Engine):
    """Directories in transformers, dense ones as they are and pruned ones through the classes of gatenorm."""

    package, extra, reads = "transformers", "torch", ("transformers",)
    preference = -1  # another engine says more about an export than the reference itself
    times = answers = predicts = generates = True
    dtypes = ("float32", "bfloat16", "float16")
    cache_passes = 3

    def open(self, path: Path) -> GreedySession:
        from gatenorm.engines.transformers.greedy import TransformersGreedy

        return TransformersGreedy(path)

    def open_timed(self, path: Path, setting: Setting) -> TimedSession:
        from gatenorm.engines.transformers.timed import TransformersTimed

        return TransformersTimed.of_directory(path, setting)

    def harness_model(self, model: Model) -> Any:
        from gatenorm.engines.transformers.harness import TransformersAnswering

        return TransformersAnswering(model)

    def likelihoods(
        self,
        model: Model,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        progress: Progress | None = None,
    ) -> list[LikelyContinuation]:
        from gatenorm.engines.transformers.likelihood import continuations

        return continuations(model, pairs, progress)

    def generate(
        self, model: Model, prompts: Sequence[Sequence[int]], new_tokens: int, progress: Progress | None = None
    ) -> list[list[int]]:
        from gatenorm.engines.transformers.likelihood import greedy

        return greedy(model, prompts, new_tokens, progress)


ENGINE = Transformers
