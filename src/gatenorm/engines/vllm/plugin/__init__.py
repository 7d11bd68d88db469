"""vLLM: what makes it serve pruned directories where gatenorm is installed, without code out of the directory.

vLLM calls :func:`register` (entry point group ``vllm.general_plugins``) in each of its processes. Classes are named as
text there, so nothing is imported that a model does not need.
"""

from importlib.util import find_spec

from gatenorm.families import families
from gatenorm.surgery.registration import register_types

_TRANSFORMERS = "gatenorm.engines.vllm.plugin.transformers_backend:TransformersForCausalLM"
_NEMOTRON_NAS = "gatenorm.engines.vllm.plugin.nemotron_nas:DeciLMForCausalLM"


def register() -> None:
    """Name the classes that run pruned models in vLLM, and make transformers read their configurations.

    Directories that ``prune`` wrote (``Gatenorm...ForCausalLM``) run in vLLM's Transformers backend, which refuses by
    name the few whose attention does not go through transformers' attention interface. A ``nemotron-nas`` model may
    begin with a layer without attention, and have a linear map in an MLP's place. Where vLLM is absent or lacks these
    classes, nothing is done; doing it again is harmless.
    """
    if find_spec("vllm") is None:
        return
    from vllm import ModelRegistry

    register_types()
    supported = set(ModelRegistry.get_supported_archs())
    if "TransformersForCausalLM" in supported:
        for family in families().values():
            ModelRegistry.register_model(f"Gatenorm{family.classes.causal_lm}", _TRANSFORMERS)
    if "DeciLMForCausalLM" in supported:
        ModelRegistry.register_model("DeciLMForCausalLM", _NEMOTRON_NAS)
