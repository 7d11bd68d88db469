"""Tiny random models of the twelve families in sizes that serving engines take, dense and pruned.

vLLM's attention on CPUs takes head sizes of 32 and more, so these are wider than those of ``tests.tiny_models``.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import torch
import transformers

import gatenorm

VOCABULARY = 160
LAYERS = 5
DROP = (0, 3)  # layer 0 is the hard one: it has no cache, and engines look at it first
WINDOW = 16  # shorter than the longest prompt that is asked, so that a window at the wrong layer shows

_LLAMA = {
    "hidden_size": 128,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
_GPT = {"hidden_size": 128, "max_position_embeddings": 128}
_NEOX = {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"}
_FALCON = {**_GPT, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "ffn_hidden_size": 96}
_MIXED = ["full_attention", "sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
_SLIDING = {"use_sliding_window": True, "sliding_window": WINDOW, "layer_types": _MIXED}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _LLAMA),
    "llama-tied": ("LlamaConfig", {**_LLAMA, "tie_word_embeddings": True}),
    "mistral": ("MistralConfig", {**_LLAMA, "sliding_window": WINDOW}),
    "qwen2": ("Qwen2Config", _LLAMA),
    "qwen2-sliding": ("Qwen2Config", {**_LLAMA, **_SLIDING}),
    "qwen3": ("Qwen3Config", {**_LLAMA, "head_dim": 64}),
    "phi3": ("Phi3Config", {**_LLAMA, "pad_token_id": 0}),
    "gemma2": ("Gemma2Config", {**_LLAMA, "head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": WINDOW}),
    "olmo2": ("Olmo2Config", _LLAMA),
    "gpt2": ("GPT2Config", {"n_embd": 128, "n_layer": LAYERS, "n_head": 4, "n_positions": 128}),
    "gpt_neo": (
        "GPTNeoConfig",
        {**_GPT, "num_layers": LAYERS, "num_heads": 4, "attention_types": [[["global", "local"], 2], [["global"], 1]]},
    ),
    "gpt_neox": ("GPTNeoXConfig", _NEOX),
    "falcon": ("FalconConfig", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}),
    "opt": (
        "OPTConfig",
        {**_FALCON, "ffn_dim": 96, "max_position_embeddings": 128, "word_embed_proj_dim": 128, "dropout": 0.0},
    ),
}


def build(name: str) -> transformers.PreTrainedModel:
    """The stock model of that case in float32 with seeded weights, gains and biases away from 1 and 0."""
    kind, arguments = CASES[name]
    special = {"bos_token_id": 1, "eos_token_id": None, "vocab_size": VOCABULARY}
    config = getattr(transformers, kind)(**{**special, **arguments})
    model = transformers.AutoModelForCausalLM.from_config(config)
    draw = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if parameter.ndim > 1:
                parameter.copy_(noise * 1.5 / parameter.shape[-1] ** 0.5)
            elif path.endswith(".weight"):
                parameter.copy_(0.3 * noise + (0.0 if kind == "Gemma2Config" else 1.0))
            else:
                parameter.copy_(0.2 * noise)
    return model.eval()


def write(name: str, directory: Path) -> tuple[Path, Path]:
    """Write the dense model and the one pruned of ``DROP`` below ``directory``; their paths."""
    dense = directory / "dense"
    build(name).save_pretrained(dense)
    return dense, gatenorm.prune(dense, directory / "pruned", gatenorm.plan(dense, drop=DROP)).path
