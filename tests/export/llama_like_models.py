"""Tiny random models of Llama's kind in sizes that engines take, pruned, written as transformers writes them.

vLLM's attention on CPUs takes head sizes of 32 and more. Weights are seeded; gains and biases are far from 1 and 0.
"""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

import gatenorm

VOCABULARY = 416
LAYERS = 5
CONTEXT = 256
# Nothing, a middle layer, the layer that engines look at first, and that one with the last.
DROPS = ((), (2,), (0,), (0, 4))
ODD_MLP = 336  # no multiple of 256

_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,  # so short that all three of its rules apply
}
_LLAMA: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": ODD_MLP,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {**_LLAMA, "rope_parameters": _LLAMA3, "rms_norm_eps": 1e-4}),
    "llama-tied": ("LlamaConfig", {**_LLAMA, "tie_word_embeddings": True, "intermediate_size": 256}),
    "llama-linear": (
        "LlamaConfig",
        {**_LLAMA, "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
    ),
    "llama-biased": ("LlamaConfig", {**_LLAMA, "attention_bias": True, "num_key_value_heads": 4}),
    "llama-narrow-heads": ("LlamaConfig", {**_LLAMA, "hidden_size": 192}),
    "qwen2": ("Qwen2Config", {**_LLAMA, "eos_token_id": None, "bos_token_id": None}),
    "mistral": ("MistralConfig", {**_LLAMA, "sliding_window": None, "num_key_value_heads": 1}),
}
# head_dim 32, but 192 / 4 = 48 would be taken for it.
CASES["llama-narrow-heads"][1]["head_dim"] = 32


@cache
def build(name: str) -> transformers.PreTrainedModel:
    """The causal language model of that case in float32, in evaluation mode; shared: leave it as it is."""
    kind, arguments = CASES[name]
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**arguments))
    draw = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if parameter.ndim > 1:
                parameter.copy_(noise * 1.5 / parameter.shape[-1] ** 0.5)
            else:
                parameter.copy_(0.3 * noise + (1.0 if path.endswith(".weight") else 0.0))
    return model.eval()


def write(name: str, directory: Path, drop: tuple[int, ...]) -> Path:
    """The directory of the case without the attention of ``drop``."""
    build(name).save_pretrained(directory / "dense")
    if not drop:
        return directory / "dense"
    return gatenorm.prune(directory / "dense", directory / "pruned", gatenorm.plan(directory / "dense", drop=drop)).path
