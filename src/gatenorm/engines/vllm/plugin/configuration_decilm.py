"""Configuration of a ``nemotron-nas`` model: Llama's, with ``block_configs`` that say what each block consists of.

This file lies in the directory that it describes, since engines load it through ``auto_map``. It needs transformers and
nothing else, and runs no code of a model.
"""

from typing import Any

from transformers import LlamaConfig


class Entry(dict[str, Any]):
    """A dict whose keys are attributes too: engines ask for ``block.attention.no_op``, JSON and copies for a dict."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        # Engines ask with hasattr for what may be left out.
        linear = ": a linear map takes this place, and vLLM needs gatenorm's plugin to run it"
        raise AttributeError(name + linear if self.get("replace_with_linear") else name)


def _entry(value: Any) -> Any:
    return Entry({key: _entry(inner) for key, inner in value.items()}) if isinstance(value, dict) else value


class DeciLMConfig(LlamaConfig):
    """Llama's configuration and one entry a block, ``{"attention": {"no_op": ...}, "ffn": {"ffn_mult": ...}}``."""

    model_type = "nemotron-nas"

    def __init__(self, block_configs: Any = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block_configs = [_entry(block) for block in block_configs]
