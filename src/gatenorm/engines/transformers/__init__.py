"""transformers: the reference that the other engines are compared with."""

from gatenorm.engines import Engine, later


class Transformers(Engine):
    """Directories in transformers, dense ones as they are and pruned ones through the classes of gatenorm."""

    package, extra, reads = "transformers", "torch", ("transformers",)
    preference = -1  # another engine says more about an export than the reference itself
    dtypes = ("float32", "bfloat16", "float16")
    cache_passes = 3

    open = later("gatenorm.engines.transformers.greedy:TransformersGreedy")
    open_timed = later("gatenorm.engines.transformers.timed:TransformersTimed.of_directory")
    harness_model = later("gatenorm.engines.transformers.harness:TransformersAnswering")
    likelihoods = later("gatenorm.engines.transformers.likelihood:continuations")
    generate = later("gatenorm.engines.transformers.generation:greedy")


ENGINE = Transformers
