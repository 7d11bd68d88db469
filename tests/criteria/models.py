"""Attention weights written by hand in the ways that families store them, with the float64 truth beside the files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from gatenorm.checkpoint import open_store
from gatenorm.families import Layout, detect_layout

Array = np.ndarray[Any, np.dtype[np.float64]]

TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# How the families differ for a reader of weights; what else a family is called is the families' own tests' matter.
FORMS = ("separate", "biased", "stacked", "grouped", "transposed", "tied")


@dataclass(frozen=True)
class Shape:
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    layers: int = 1


@dataclass(frozen=True)
class Truth:
    """One layer's weights as stored, in float64: ``q [heads, head_dim, width]``, ``o [heads, width, head_dim]``."""

    q: Array
    k: Array
    v: Array
    o: Array
    gain: Array

    def group(self, kv: Array) -> Array:
        """Key or value heads repeated for every query head that reads them."""
        return np.repeat(kv, len(self.q) // len(kv), axis=0)


def write(
    directory: Path,
    form: str,
    shape: Shape,
    dtype: str = "F32",
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    extra: Mapping[str, torch.Tensor] | None = None,
) -> tuple[Layout, list[Truth]]:
    """A checkpoint of random weights, opened as users open one, and what was written into it."""
    draw = np.random.default_rng(seed)
    tensors: dict[str, torch.Tensor] = {}
    truths = []
    for layer in range(shape.layers):
        rows = {"q": shape.heads, "k": shape.kv_heads, "v": shape.kv_heads, "o": shape.heads}
        drawn = {
            role: torch.from_numpy(draw.standard_normal((n, shape.head_dim, shape.width)) * 0.3).to(TORCH[dtype])
            for role, n in rows.items()
        }
        gain = torch.from_numpy(1 + 0.3 * draw.standard_normal(shape.width)).to(TORCH[dtype])
        truth = {role: w.double().numpy() for role, w in drawn.items()}
        truths.append(Truth(truth["q"], truth["k"], truth["v"], truth["o"].transpose(0, 2, 1), gain.double().numpy()))
        tensors |= _stored(form, layer, shape, drawn, gain)
    save_file(tensors | dict(extra or {}), directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(_config(form, shape) | dict(config or {})))
    return detect_layout(open_store(directory)), truths


def _stored(
    form: str, layer: int, shape: Shape, w: dict[str, torch.Tensor], gain: torch.Tensor
) -> dict[str, torch.Tensor]:
    flat = {role: x.reshape(-1, shape.width) for role, x in w.items()}
    output = flat["o"].T.contiguous()
    if form == "transposed":  # GPT-2's Conv1D
        block = f"transformer.h.{layer}"
        fused = torch.cat([flat["q"], flat["k"], flat["v"]]).T.contiguous()
        tensors = {"attn.c_attn": fused, "attn.c_proj": flat["o"].contiguous(), "ln_1": gain}
        bias = {f"{block}.attn.c_attn.bias": torch.ones(fused.shape[1])}
        return {f"{block}.{n}.weight": t for n, t in tensors.items()} | bias
    if form == "grouped":  # Falcon: a group's query heads, its key head, its value head
        block, size = f"transformer.h.{layer}", shape.heads // shape.kv_heads
        parts = [
            part for g in range(shape.kv_heads) for part in (*w["q"][g * size : (g + 1) * size], w["k"][g], w["v"][g])
        ]
        tensors = {
            "self_attention.query_key_value": torch.cat(parts),
            "self_attention.dense": output,
            "ln_attn": gain,
        }
        return {f"{block}.{n}.weight": t for n, t in tensors.items()}
    block = f"model.layers.{layer}"
    tensors = {"self_attn.o_proj": output, "input_layernorm": gain}
    if form == "stacked":  # Phi-3
        tensors["self_attn.qkv_proj"] = torch.cat([flat["q"], flat["k"], flat["v"]])
        return {f"{block}.{n}.weight": t for n, t in tensors.items()}
    tensors |= {f"self_attn.{role}_proj": flat[role].contiguous() for role in "qkv"}
    stored = {f"{block}.{n}.weight": t for n, t in tensors.items()}
    if form == "biased":
        stored |= {f"{block}.self_attn.{role}_proj.bias": torch.ones(len(flat[role])) for role in "qkv"}
    return stored


def _config(form: str, shape: Shape) -> dict[str, Any]:
    if form == "transposed":
        return {"model_type": "gpt2", "n_layer": shape.layers, "n_embd": shape.width, "n_head": shape.heads}
    config = {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": 17,
        "rope_theta": 100.0,
        "tie_word_embeddings": form == "tied",
    }
    if form == "grouped":
        names = {"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": shape.kv_heads}
        return config | names
    return config | {"model_type": {"stacked": "phi3", "biased": "qwen2"}.get(form, "llama")}
