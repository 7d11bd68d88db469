"""llama.cpp, through the package xllamacpp: GGUF files on the CPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatenorm.engines import Engine, GreedySession, LikelyContinuation, Setting, TimedSession
from gatenorm.families import Layout
from gatenorm.models.model import Model
from gatenorm.progress import Progress


class LlamaCpp(Engine):
    """llama.cpp; it computes in the types that a file stores."""

    package, extra, reads = "xllamacpp", "llamacpp", ("gguf",)
    exact = False
    times = predicts = True
    distributions = ("xllamacpp",)

    def open(self, path: Path) -> GreedySession:
        from gatenorm.engines.llamacpp.greedy import LlamaCppGreedy

        return LlamaCppGreedy(path)

    def open_timed(self, path: Path, setting: Setting) -> TimedSession:
        from gatenorm.engines.llamacpp.timed import LlamaCppTimed

        return LlamaCppTimed(path, setting)

    def model(self, layout: Layout, **hardware: Any) -> Model:
        from gatenorm.engines.llamacpp.likelihood import opened

        return opened(layout, self.name, **hardware)

    def likelihoods(
        self,
        model: Model,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        progress: Progress | None = None,
    ) -> list[LikelyContinuation]:
        from gatenorm.engines.llamacpp.likelihood import continuations

        return continuations(model, pairs, progress)


ENGINE = LlamaCpp
