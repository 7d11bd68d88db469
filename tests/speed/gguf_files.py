"""Tiny GGUF files of llama.cpp's architecture ``deci`` with random weights: enough of a model to be timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gguf import GGUFWriter

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, WORDS = 4, 64, 4, 2, 16, 96, 300


def write(
    path: Path, drop: Sequence[int] = (), context: int = 512, more: Callable[[GGUFWriter], None] = lambda writer: None
) -> Path:
    """A model whose layers ``drop`` (not layer 0) have no attention; ``more`` sets keys besides, or others."""
    from gguf import GGUFWriter, TokenType

    writer = GGUFWriter(path, "deci")
    writer.add_block_count(LAYERS)
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_vocab_size(WORDS)
    writer.add_feed_forward_length([HIDDEN] * LAYERS)
    writer.add_head_count([0 if i in drop else HEADS for i in range(LAYERS)])
    writer.add_head_count_kv([0 if i in drop else KV_HEADS for i in range(LAYERS)])
    for add in (writer.add_key_length, writer.add_value_length, writer.add_rope_dimension_count):
        add(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    words = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *(f"w{i}" for i in range(WORDS - 259))]
    kinds = [TokenType.UNKNOWN, *[TokenType.CONTROL] * 2, *[TokenType.BYTE] * 256, *[TokenType.NORMAL] * (WORDS - 259)]
    more(writer)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([0.0] * WORDS)
    writer.add_token_types(kinds)
    draw = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        values = draw.standard_normal(shape) * 0.1 if len(shape) == 2 else np.ones(shape)
        writer.add_tensor(name, values.astype(np.float32))

    add("token_embd.weight", WORDS, WIDTH)
    add("output_norm.weight", WIDTH)
    add("output.weight", WORDS, WIDTH)
    for i in range(LAYERS):
        if i not in drop:
            add(f"blk.{i}.attn_norm.weight", WIDTH)
            add(f"blk.{i}.attn_q.weight", HEADS * HEAD_DIM, WIDTH)
            add(f"blk.{i}.attn_k.weight", KV_HEADS * HEAD_DIM, WIDTH)
            add(f"blk.{i}.attn_v.weight", KV_HEADS * HEAD_DIM, WIDTH)
            add(f"blk.{i}.attn_output.weight", WIDTH, HEADS * HEAD_DIM)
        add(f"blk.{i}.ffn_norm.weight", WIDTH)
        add(f"blk.{i}.ffn_gate.weight", HIDDEN, WIDTH)
        add(f"blk.{i}.ffn_up.weight", HIDDEN, WIDTH)
        add(f"blk.{i}.ffn_down.weight", WIDTH, HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
