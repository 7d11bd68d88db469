"""vLLM's class for models that transformers defines, for pruned ones that gatenorm's classes load."""

from typing import Any

from vllm.model_executor.models import transformers as stock

from gatenorm.surgery.registration import register_classes


class TransformersForCausalLM(stock.TransformersForCausalLM):
    """The stock Transformers backend. It has the stock name, by which vLLM chooses optimisations for it.

    A worker process gets the configuration ready-made, so nothing there has made transformers look up its type, which
    is what registers the model classes elsewhere.
    """

    def __init__(self, *, vllm_config: Any, prefix: str = ""):
        config = vllm_config.model_config.hf_config
        register_classes(type(config))
        refuse_without_attention_interface(config)
        super().__init__(vllm_config=vllm_config, prefix=prefix)


def refuse_without_attention_interface(config: Any) -> None:
    """Raise ValueError where vLLM cannot put its own attention in; it asks the same itself where code is trusted."""
    from transformers import AutoModel

    model = AutoModel._model_mapping[type(config)]
    if not (model.is_backend_compatible() or model._can_set_attn_implementation()):
        raise ValueError(
            f"vLLM cannot serve {model.__name__}: its attention in transformers does not go through the attention "
            "interface, in which vLLM's Transformers backend puts its own; serve the directory with transformers"
        )
