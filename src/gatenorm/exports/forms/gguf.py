"""GGUF, for llama.cpp."""

from gatenorm.exports.gguf.types import SCHEMES
from gatenorm.exports.registry import Export

EXPORT = Export(
    summary="one GGUF file, of a pruned model of architecture deci",
    engines=("llama.cpp", "Ollama"),
    dtypes=("auto", *SCHEMES),
    is_file=True,
    module="gatenorm.exports.gguf.writer",
)
