"""llama.cpp, through the package xllamacpp: GGUF files on the CPU."""

from pathlib import Path

from gatenorm.engines import Engine, GreedySession, Setting, TimedSession


class LlamaCpp(Engine):
    """llama.cpp; it computes in the types that a file stores."""

    package, extra, reads = "xllamacpp", "llamacpp", ("gguf",)
    exact = False
    times = True

    def open(self, path: Path) -> GreedySession:
        from gatenorm.engines.llamacpp.greedy import LlamaCppGreedy

        return LlamaCppGreedy(path)

    def open_timed(self, path: Path, setting: Setting) -> TimedSession:
        from gatenorm.engines.llamacpp.timed import LlamaCppTimed

        return LlamaCppTimed(path, setting)


ENGINE = LlamaCpp
