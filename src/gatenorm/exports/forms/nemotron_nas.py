"""A directory whose blocks may lack sublayers, as NVIDIA's Nemotron models of this type do."""

from gatenorm.exports.registry import Export

EXPORT = Export(
    summary="a directory of type nemotron-nas",
    engines=("vLLM", "SGLang", "TensorRT-LLM", "ExLlamaV3", "MLX-LM"),
    dtypes=("auto",),
    is_file=False,
    module="gatenorm.exports.nemotron.writer",
)
