"""GGUF files of tiny models, written as llama.cpp's converter does it: by the gguf package's own table of names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import transformers

from gatenorm.checkpoint import open_store

# Whose queries and keys the converter stores in the order of interleaved pairs.
_INTERLEAVED = ("llama",)
_IN_BLOCKS = ("Q8_0", "Q4_1")
# Whose norms it stores with the 1 that transformers adds.
_FROM_ONE = ("gemma", "gemma2", "gemma3")


def write(directory: Path, architecture: str, out: Path, dtype: str = "F32", factors: np.ndarray | None = None) -> Path:
    """The checkpoint in ``directory`` as a GGUF file with matrices of type ``dtype``.

    ``factors`` are those by which rotary waves are stretched. Left out is what the converter does not store under the
    name that a file of transformers has: single experts.
    """
    import gguf

    store, config = open_store(directory), transformers.AutoConfig.from_pretrained(directory)
    names = gguf.get_tensor_name_map(
        next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture), config.num_hidden_layers
    )
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer = gguf.GGUFWriter(out, architecture)
    _describe(writer, config, head_dim)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))
    for name in store.specs:
        values = store.float32(name)
        if architecture in _INTERLEAVED and ("q_proj" in name or "k_proj" in name):
            values = values.reshape(-1, 2, head_dim // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        if architecture in _FROM_ONE and name.endswith("norm.weight"):
            values = values + np.float32(1)
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if name.endswith("sinks"):
            own = names.get_name(name) + ".weight"
        if own is None:
            continue
        # Rows of tiny models do not always fill the blocks of a type.
        fits = values.ndim > 1 and (values.shape[-1] % 32 == 0 or dtype not in _IN_BLOCKS)
        kind = gguf.GGMLQuantizationType[dtype if fits else "F32"]
        data = gguf.quants.quantize(values, kind) if kind != gguf.GGMLQuantizationType.F32 else values
        writer.add_tensor(own, data, raw_dtype=kind)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    return out


def _describe(writer, config, head_dim: int) -> None:
    import gguf

    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
    if getattr(config, "attn_logit_softcapping", None):
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(config.vocab_size - 3))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([0.0] * len(words))
    writer.add_token_types([gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[1] * (len(words) - 3)])
