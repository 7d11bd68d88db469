"""Tiny random transformers models of every family and block shape, to be asked what their checkpoints hold.

A case is a config class and its arguments; weights are seeded, norm gains and biases are far from 1 and 0, so that
whoever forgets one of them computes something else.
"""

from __future__ import annotations

import copy
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

VOCABULARY = 96
TOKENS = 12

_LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
_GPT2 = {"n_embd": 48, "n_layer": 4, "n_head": 4, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0}
_NEO = {
    "hidden_size": 48,
    "num_layers": 4,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 2]],
    "window_size": 16,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_NEOX = {
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
_FALCON = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "ffn_hidden_size": 80,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_FALCON_NEW = {**_FALCON, "new_decoder_architecture": True, "num_attention_heads": 8, "num_kv_heads": 2, "bias": True}
_OPT = {
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "ffn_dim": 80,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 48,
    "dropout": 0.0,
}
_PHI3 = {**_LLAMA, "pad_token_id": 0, "eos_token_id": 0}
_SLIDING = {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": 16}
_GEMMA2 = {"hidden_size": 48, "num_attention_heads": 4, "head_dim": 16, "query_pre_attn_scalar": 24}

_SMALL = {**_LLAMA, "hidden_size": 48, "num_attention_heads": 4, "head_dim": 16}
_EXPERTS = {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
_LOCAL = {"intermediate_size": 24, "num_local_experts": 4, "num_experts_per_tok": 2}
_ROUTED = {
    "moe_intermediate_size": 24,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
_WINDOWED = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "original_max_position_embeddings": 8}
_MINISTRAL = {**_ROPE, "llama_4_scaling_beta": 0.1}
_PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
_GRANITE = {"residual_multiplier": 0.5, "attention_multiplier": 0.2, "embedding_multiplier": 2.0, "logits_scaling": 2.0}
_FULL = ["full_attention"] * 4
_DELTA = {
    "num_hidden_layers": 5,
    "layer_types": [*_FULL, "linear_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
_MAMBA = {
    "num_hidden_layers": 5,
    "layer_types": [*_FULL, "linear_attention"],
    "position_embedding_type": "rope",
    "shared_intermediate_size": 48,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_QWEN_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "out_hidden_size": 48,
    "intermediate_size": 48,
    "patch_size": 14,
    "num_position_embeddings": 16,
}

_MROPE = {**_PLAIN, "mrope_section": [4, 2, 2]}
_QWEN_VL = {
    "text_config": {
        **_LLAMA,
        **_SLIDING,
        "hidden_size": 48,
        "num_attention_heads": 4,
        "rope_parameters": {**_PLAIN, "mrope_section": [2, 2, 2]},
    },
    "image_token_id": 3,
}

_LATENT = {"q_lora_rank": 24, "kv_lora_rank": 20, "qk_nope_head_dim": 8, "qk_rope_head_dim": 6, "v_head_dim": 10}
_YARN = {
    **_PLAIN,
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "mscale": 1.0,
    "mscale_all_dim": 0.8,
}

_HYBRID = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
_FALCON_H1 = {
    "mamba_d_ssm": 128,
    "key_multiplier": 0.7,
    "attention_in_multiplier": 1.3,
    "attention_out_multiplier": 0.8,
    "embedding_multiplier": 1.5,
    "mlp_multipliers": [0.9, 1.2],
    "ssm_out_multiplier": 0.6,
}
_LLAMA4 = {
    **_SMALL,
    **_LOCAL,
    "intermediate_size_mlp": 40,
    "interleave_moe_layer_step": 2,
    "no_rope_layer_interval": 3,
    "attention_chunk_size": 16,
    "floor_scale": 8,
    "rope_parameters": _PLAIN,
}

_GEMMA4 = {
    **_SMALL,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 0,
    "global_head_dim": 32,
    "sliding_window": 16,
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention", "full_attention"] * 3,
}
_GEMMA4_E = {
    **_GEMMA4,
    "num_hidden_layers": 8,
    "layer_types": ["sliding_attention", "full_attention"] * 4,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 2,
    "use_double_wide_mlp": True,
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-gqa": ("LlamaConfig", _LLAMA),
    "llama-mha": ("LlamaConfig", {**_LLAMA, "num_key_value_heads": 8, "num_hidden_layers": 5}),
    "llama-wide-heads": ("LlamaConfig", {**_LLAMA, "hidden_size": 48, "num_attention_heads": 4, "head_dim": 24}),
    "llama-tied": ("LlamaConfig", {**_LLAMA, "tie_word_embeddings": True}),
    "llama-biased": ("LlamaConfig", {**_LLAMA, "attention_bias": True}),
    "mistral": ("MistralConfig", {**_LLAMA, "sliding_window": 16}),
    "qwen2": ("Qwen2Config", _LLAMA),
    "qwen2-sliding": ("Qwen2Config", {**_LLAMA, **_SLIDING}),
    "qwen3": ("Qwen3Config", {**_LLAMA, "hidden_size": 48, "num_attention_heads": 4, "head_dim": 16}),
    "phi3": ("Phi3Config", _PHI3),
    "phi3-partial": ("Phi3Config", {**_PHI3, "partial_rotary_factor": 0.5}),
    "gemma2": ("Gemma2Config", {**_LLAMA, **_GEMMA2, "attn_logit_softcapping": 2.0, "sliding_window": 16}),
    "gemma2-uncapped": ("Gemma2Config", {**_LLAMA, **_GEMMA2, "attn_logit_softcapping": None}),
    "olmo2": ("Olmo2Config", {**_LLAMA, "eos_token_id": 0}),
    "gpt2": ("GPT2Config", _GPT2),
    "gpt2-unscaled": ("GPT2Config", {**_GPT2, "scale_attn_weights": False}),
    "gpt_neo": ("GPTNeoConfig", _NEO),
    "gpt_neox": ("GPTNeoXConfig", _NEOX),
    "gpt_neox-sequential": ("GPTNeoXConfig", {**_NEOX, "use_parallel_residual": False}),
    "falcon-7b": ("FalconConfig", _FALCON),
    "falcon-40b": ("FalconConfig", _FALCON_NEW),
    "falcon-11b": ("FalconConfig", {**_FALCON_NEW, "num_ln_in_parallel_attn": 1}),
    "falcon-multi-head": ("FalconConfig", {**_FALCON, "multi_query": False, "bias": True}),
    "falcon-alibi": ("FalconConfig", {**_FALCON, "multi_query": False, "alibi": True, "bias": True}),
    "falcon-sequential": ("FalconConfig", {**_FALCON, "parallel_attn": False, "alibi": True, "bias": True}),
    "opt": ("OPTConfig", _OPT),
    "opt-post-norm": ("OPTConfig", {**_OPT, "do_layer_norm_before": False}),
    "gemma": ("GemmaConfig", _SMALL),
    "gemma3_text": ("Gemma3TextConfig", {**_SMALL, "query_pre_attn_scalar": 24, **_WINDOWED}),
    "qwen3_moe": ("Qwen3MoeConfig", {**_SMALL, **_EXPERTS, "mlp_only_layers": [1]}),
    "qwen2_moe": ("Qwen2MoeConfig", {**_LLAMA, **_EXPERTS, "shared_expert_intermediate_size": 24}),
    "olmoe": ("OlmoeConfig", {**_LLAMA, **_EXPERTS, "intermediate_size": 24, **_SPECIAL}),
    "olmo3": ("Olmo3Config", {**_LLAMA, **_WINDOWED, **_SPECIAL}),
    "starcoder2": ("Starcoder2Config", {**_LLAMA, **_SPECIAL}),
    "cohere": ("CohereConfig", {**_LLAMA, **_SPECIAL}),
    "phi": ("PhiConfig", _LLAMA),
    "glm4": ("Glm4Config", {**_SMALL, **_SPECIAL}),
    "smollm3": ("SmolLM3Config", {**_LLAMA, **_SPECIAL, "no_rope_layers": [1, 0, 1, 1]}),
    "ministral3": (
        "Ministral3Config",
        {**_SMALL, **_SPECIAL, "rope_parameters": _MINISTRAL},
    ),
    "ernie4_5": ("Ernie4_5Config", _SMALL),
    "stablelm": ("StableLmConfig", {**_LLAMA, "use_qkv_bias": True}),
    "stablelm-parallel": ("StableLmConfig", {**_LLAMA, "use_parallel_residual": True}),
    "seed_oss": ("SeedOssConfig", _SMALL),
    "nemotron": ("NemotronConfig", _SMALL),
    "hunyuan": ("HunYuanDenseV1Config", _SMALL),
    "granite": ("GraniteConfig", {**_LLAMA, **_GRANITE}),
    "mixtral": ("MixtralConfig", {**_LLAMA, **_LOCAL}),
    "minimax_m2": ("MiniMaxM2Config", {**_SMALL, **_LOCAL, **_SPECIAL, "rotary_dim": 8}),
    "gpt_oss": ("GptOssConfig", {**_SMALL, **_LOCAL, **_SPECIAL, **_WINDOWED, "rope_parameters": _PLAIN}),
    "glm4_moe": ("Glm4MoeConfig", {**_SMALL, **_ROUTED, "use_qk_norm": True}),
    "dots1": ("Dots1Config", {**_SMALL, **_ROUTED, **_WINDOWED}),
    "cohere2": ("Cohere2Config", {**_SMALL, **_SPECIAL, **_WINDOWED}),
    "exaone4": ("Exaone4Config", {**_LLAMA, **_WINDOWED}),
    "glm": ("GlmConfig", {**_SMALL, **_SPECIAL}),
    "arcee": ("ArceeConfig", {**_SMALL, **_SPECIAL}),
    "apertus": ("ApertusConfig", {**_LLAMA, "rope_parameters": _PLAIN}),
    "helium": ("HeliumConfig", {**_LLAMA, "head_dim": 8}),
    "granitemoe": ("GraniteMoeConfig", {**_LLAMA, **_LOCAL, **_GRANITE}),
    "phimoe": ("PhimoeConfig", {**_LLAMA, **_LOCAL, "attention_bias": True}),
    "ernie4_5_moe": ("Ernie4_5_MoeConfig", {**_SMALL, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24}),
    "vaultgemma": ("VaultGemmaConfig", {**_SMALL, "query_pre_attn_scalar": 24, **_WINDOWED}),
    "flex_olmo": ("FlexOlmoConfig", {**_LLAMA, **_SPECIAL, "num_experts": 4, "num_experts_per_tok": 2}),
    "cwm": ("CwmConfig", {**_SMALL, **_SPECIAL, **_WINDOWED, "rope_parameters": _PLAIN}),
    "gpt_bigcode": ("GPTBigCodeConfig", _GPT2),
    "qwen3_next": ("Qwen3NextConfig", {**_SMALL, **_EXPERTS, **_DELTA, "shared_expert_intermediate_size": 24}),
    "qwen3_5_text": ("Qwen3_5TextConfig", {**_SMALL, **_DELTA}),
    "qwen3_5_moe_text": (
        "Qwen3_5MoeTextConfig",
        {**_SMALL, **_EXPERTS, **_DELTA, "shared_expert_intermediate_size": 24},
    ),
    "lfm2": ("Lfm2Config", {**_LLAMA, "num_hidden_layers": 5, "layer_types": [*_FULL, "conv"], "block_multiple_of": 8}),
    "lfm2_moe": ("Lfm2MoeConfig", {**_LLAMA, **_EXPERTS, "layer_types": [*_FULL, "conv"], "num_hidden_layers": 5}),
    "granitemoehybrid": ("GraniteMoeHybridConfig", {**_LLAMA, **_GRANITE, **_MAMBA, "num_local_experts": 0}),
    "granitemoehybrid-experts": (
        "GraniteMoeHybridConfig",
        {**_LLAMA, **_GRANITE, **_MAMBA, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "bamba": ("BambaConfig", {**_LLAMA, **_HYBRID, "num_hidden_layers": 5, "attn_layer_indices": [0, 1, 2, 3]}),
    "jamba": (
        "JambaConfig",
        {**_LLAMA, "num_hidden_layers": 8, "attn_layer_period": 2, "attn_layer_offset": 0, "num_experts": 4},
    ),
    "falcon_h1": ("FalconH1Config", {**_LLAMA, **_HYBRID, **_FALCON_H1}),
    "llama4_text": ("Llama4TextConfig", _LLAMA4),
    "llama4_text-unnormed": (
        "Llama4TextConfig",
        {**_LLAMA4, "use_qk_norm": False, "attn_temperature_tuning": False},
    ),
    "gemma4_text": (
        "Gemma4TextConfig",
        {**_GEMMA4, "attention_k_eq_v": True, "num_global_key_value_heads": 1, "final_logit_softcapping": 30.0},
    ),
    "gemma4_text-e": ("Gemma4TextConfig", _GEMMA4_E),
    "gemma4_text-experts": (
        "Gemma4TextConfig",
        {**_GEMMA4, "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24},
    ),
    "olmo": ("OlmoConfig", {**_LLAMA, **_SPECIAL}),
    "gptj": ("GPTJConfig", {**_GPT2, "rotary_dim": 8}),
    "solar_open": ("SolarOpenConfig", {**_SMALL, **_ROUTED}),
    "gemma3": (
        "Gemma3Config",
        {
            "text_config": {**_SMALL, "query_pre_attn_scalar": 24, **_WINDOWED},
            "vision_config": _VISION,
            "mm_tokens_per_image": 4,
            "image_token_index": 3,
        },
    ),
    "gemma4": (
        "Gemma4Config",
        {
            "text_config": _GEMMA4_E,
            "vision_config": {
                **_VISION,
                "num_key_value_heads": 2,
                "head_dim": 16,
                "position_embedding_size": 16,
                "pooling_kernel_size": 2,
            },
            "image_token_id": 3,
        },
    ),
    "mistral3": (
        "Mistral3Config",
        {
            "text_config": {**_SMALL, "model_type": "ministral3", "rope_parameters": _MINISTRAL},
            "vision_config": {**_VISION, "model_type": "pixtral", "image_size": 56},
            "image_token_index": 3,
        },
    ),
    "mistral3-mistral": (
        "Mistral3Config",
        {
            "text_config": {**_SMALL, "model_type": "mistral"},
            "vision_config": {**_VISION, "model_type": "pixtral", "image_size": 56},
            "image_token_index": 3,
        },
    ),
    "llava": (
        "LlavaConfig",
        {
            "text_config": {**_LLAMA, "model_type": "llama"},
            "vision_config": {**_VISION, "model_type": "clip_vision_model"},
            "image_token_index": 3,
        },
    ),
    "llama4": (
        "Llama4Config",
        {
            "text_config": _LLAMA4,
            "vision_config": {
                **_VISION,
                "intermediate_size": 128,
                "vision_output_dim": 32,
                "projector_input_dim": 32,
                "projector_output_dim": 32,
                "rope_parameters": _PLAIN,
            },
            "image_token_index": 3,
        },
    ),
    "kimi_k25": (
        "Kimi_K25Config",
        {
            "text_config": {**_LLAMA, **_ROUTED, **_LATENT, "num_key_value_heads": 8, "n_group": 1, "topk_group": 1},
            "vision_config": _VISION,
            "image_token_id": 3,
            "projection_hidden_size": 32,
        },
    ),
    "qwen3_5": (
        "Qwen3_5Config",
        {"text_config": {**_SMALL, **_DELTA}, "vision_config": _QWEN_VISION, "image_token_id": 3},
    ),
    "qwen3_5_moe": (
        "Qwen3_5MoeConfig",
        {
            "text_config": {**_SMALL, **_EXPERTS, **_DELTA, "shared_expert_intermediate_size": 24},
            "vision_config": _QWEN_VISION,
            "image_token_id": 3,
        },
    ),
    "qwen2_vl": ("Qwen2VLConfig", {**_QWEN_VL, "vision_config": {**_QWEN_VISION, "embed_dim": 32, "hidden_size": 48}}),
    "qwen2_5_vl": ("Qwen2_5_VLConfig", {**_QWEN_VL, "vision_config": _QWEN_VISION}),
    "qwen3_vl": (
        "Qwen3VLConfig",
        {
            "text_config": {**_SMALL, "rope_parameters": _MROPE},
            "vision_config": {**_QWEN_VISION, "deepstack_visual_indexes": [0, 1]},
            "image_token_id": 3,
        },
    ),
    "qwen3_vl_moe": (
        "Qwen3VLMoeConfig",
        {
            "text_config": {**_SMALL, **_EXPERTS, "mlp_only_layers": [1], "rope_parameters": _MROPE},
            "vision_config": {**_QWEN_VISION, "deepstack_visual_indexes": [0, 1]},
            "image_token_id": 3,
        },
    ),
    "llava_next": (
        "LlavaNextConfig",
        {
            "text_config": {**_LLAMA, "model_type": "mistral"},
            "vision_config": {**_VISION, "model_type": "clip_vision_model"},
            "image_token_index": 3,
            "image_grid_pinpoints": [[28, 28]],
        },
    ),
    "internvl": (
        "InternVLConfig",
        {
            "text_config": {**_SMALL, "model_type": "qwen3"},
            "vision_config": {**_VISION, "image_size": [28, 28], "patch_size": [14, 14]},
            "image_token_id": 3,
        },
    ),
    "smolvlm": (
        "SmolVLMConfig",
        {
            "text_config": {**_LLAMA, "model_type": "llama"},
            "vision_config": _VISION,
            "image_token_id": 3,
            "scale_factor": 2,
        },
    ),
    "idefics3": (
        "Idefics3Config",
        {
            "text_config": {**_LLAMA, "model_type": "llama"},
            "vision_config": _VISION,
            "image_token_id": 3,
            "scale_factor": 2,
        },
    ),
    "deepseek_v3": (
        "DeepseekV3Config",
        {**_LLAMA, **_ROUTED, **_LATENT, "num_key_value_heads": 8, "n_group": 2, "topk_group": 1},
    ),
    "deepseek_v3-yarn": (
        "DeepseekV3Config",
        {
            **_LLAMA,
            **_ROUTED,
            **_LATENT,
            "q_lora_rank": None,
            "num_key_value_heads": 8,
            "rope_parameters": _YARN,
            "n_group": 2,
            "topk_group": 1,
        },
    ),
    "deepseek_v2": (
        "DeepseekV2Config",
        {**_LLAMA, **_ROUTED, **_LATENT, "num_key_value_heads": 8, "n_group": 2, "topk_group": 1},
    ),
    "glm4_moe_lite": ("Glm4MoeLiteConfig", {**_LLAMA, **_ROUTED, **_LATENT, "num_key_value_heads": 8}),
    "youtu": ("YoutuConfig", {**_LLAMA, **_LATENT, "num_key_value_heads": 8, "bos_token_id": 0, "eos_token_id": 0}),
    "nemotron_h": (
        "NemotronHConfig",
        {
            **{key: value for key, value in _SMALL.items() if key != "num_hidden_layers"},
            "layers_block_type": [*_FULL, "linear_attention", "mlp", "moe"],
            "mamba_num_heads": 4,
            "mamba_head_dim": 24,
            "ssm_state_size": 8,
            "n_groups": 2,
            "moe_intermediate_size": 24,
            "moe_shared_expert_intermediate_size": 24,
            "n_routed_experts": 4,
            **_SPECIAL,
            "pad_token_id": None,
        },
    ),
    "opt-projected": ("OPTConfig", {**_OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 32}),
}


# Whose norms multiply by one more than their weight.
GAINS_FROM_ONE = ("GemmaConfig", "Gemma2", "Gemma3", "VaultGemma", "Nemotron", "Qwen3Next", "Qwen3_5")


@cache
def build(name: str) -> transformers.PreTrainedModel:
    """The causal language model of that case in float32, in evaluation mode; shared: leave it as it is."""
    kind, arguments = CASES[name]
    if "text_config" in arguments:
        text = {**arguments["text_config"], "vocab_size": VOCABULARY}
        config, auto = {**arguments, "text_config": text}, transformers.AutoModelForImageTextToText
    else:
        config, auto = {**arguments, "vocab_size": VOCABULARY}, transformers.AutoModelForCausalLM
    model = auto.from_config(getattr(transformers, kind)(**config), attn_implementation=attention_of(kind))
    draw = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if parameter.ndim > 1:
                parameter.copy_(noise * (2.5 if "embed" in path or "wte" in path else 1.5) / parameter.shape[-1] ** 0.5)
            elif path.endswith(".weight"):  # a norm's gain; Gemma's counts from 1, which 0.4 leaves well away from 0
                parameter.copy_(0.4 * noise + (0.0 if kind.startswith(GAINS_FROM_ONE) else 1.0))
            else:
                parameter.copy_(0.3 * noise)
            if kind.startswith("Gemma4") and path.endswith("q_norm.weight"):
                parameter.mul_(len(parameter) ** -0.5)  # where others scale logits, trained models have small gains
        for path, buffer in model.named_buffers():
            if path.endswith("layer_scalar"):
                buffer.fill_(0.8)
    return model.eval()


def attention_of(kind: str) -> str:
    """An implementation whose inputs a test can get hold of: Falcon has no eager function of its own."""
    return "sdpa" if kind == "FalconConfig" else "eager"


def save(
    name: str, directory: Path, dtype: str = "float32", max_shard_size: str = "1GB", base_only: bool = False
) -> Path:
    """Write the case as transformers does; ``base_only`` without the head, whose names lack the first component."""
    model = build(name)
    if dtype != "float32":
        model = copy.deepcopy(model).to(getattr(torch, dtype))
    (model.base_model if base_only else model).save_pretrained(directory, max_shard_size=max_shard_size)
    return directory


def tokens() -> torch.Tensor:
    """``[1, TOKENS]`` token ids, none of them a special one."""
    return torch.randint(4, VOCABULARY, (1, TOKENS), generator=torch.Generator().manual_seed(5))
