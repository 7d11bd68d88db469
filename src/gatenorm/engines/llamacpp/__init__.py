"""llama.cpp, through the package xllamacpp: GGUF files on the CPU."""

from typing import Any

from gatenorm.engines import Engine, later
from gatenorm.families import Layout
from gatenorm.models.model import Model


class LlamaCpp(Engine):
    """llama.cpp; it computes in the types that a file stores."""

    package, extra, reads = "xllamacpp", "llamacpp", ("gguf",)
    exact = False
    distributions = ("xllamacpp",)

    open = later("gatenorm.engines.llamacpp.greedy:LlamaCppGreedy")
    open_timed = later("gatenorm.engines.llamacpp.timed:LlamaCppTimed")
    likelihoods = later("gatenorm.engines.llamacpp.likelihood:continuations")

    def model(self, layout: Layout, **hardware: Any) -> Model:
        from gatenorm.engines.llamacpp.likelihood import opened

        return opened(layout, self.name, **hardware)


ENGINE = LlamaCpp
