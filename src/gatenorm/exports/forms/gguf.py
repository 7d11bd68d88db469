"""GGUF, for llama.cpp."""

from gatenorm.exports.registry import Export

EXPORT = Export(
    summary="one GGUF file, of a pruned model of architecture deci",
    engines=("llama.cpp", "Ollama"),
    dtypes=("auto", "f32", "f16", "bf16", "q8_0", "q4_k_m", "q5_k_m", "q6_k"),
    is_file=True,
    module="gatenorm.exports.gguf.writer",
)
