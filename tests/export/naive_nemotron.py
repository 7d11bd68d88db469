"""What a nemotron-nas directory describes, computed step by step in float64 from config.json and the tensors alone."""

from __future__ import annotations

import math
from typing import Any

import torch


def forward(config: dict[str, Any], tensors: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """Logits ``[tokens, vocabulary]`` of the model that config.json describes, in float64, step by step."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    heads, size, count = config["num_attention_heads"], config["head_dim"], len(tokens)

    def norm(x: torch.Tensor, gain: str) -> torch.Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + config["rms_norm_eps"]).sqrt() * tensors[gain]

    def linear(x: torch.Tensor, module: str) -> torch.Tensor:
        bias = tensors[f"{module}.bias"] if config["attention_bias"] and "self_attn" in module else 0
        return x @ tensors[f"{module}.weight"].T + bias

    angles = torch.arange(count).double()[:, None] * torch.tensor(frequencies(config)).double()  # (T, size / 2)
    cosine, sine = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)

    def turn(x: torch.Tensor) -> torch.Tensor:  # (heads, T, size)
        first, second = x.chunk(2, -1)
        return x * cosine + torch.cat([-second, first], -1) * sine

    x = tensors["model.embed_tokens.weight"][tokens]
    for layer, block in enumerate(config["block_configs"]):
        path, attention = f"model.layers.{layer}", block["attention"]
        if not attention["no_op"]:
            normed, group = norm(x, f"{path}.input_layernorm.weight"), attention["n_heads_in_group"]
            q, k, v = (linear(normed, f"{path}.self_attn.{p}_proj").unflatten(-1, (-1, size)) for p in "qkv")
            assert (q.shape[1], k.shape[1]) == (heads, heads // group)
            q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
            k, v = turn(k).repeat_interleave(group, 0), v.repeat_interleave(group, 0)
            logits = turn(q) @ k.transpose(1, 2) / math.sqrt(size)
            logits.masked_fill_(torch.ones(count, count).triu(1).bool(), -torch.inf)
            x = x + linear((logits.softmax(-1) @ v).transpose(0, 1).flatten(1), f"{path}.self_attn.o_proj")
        if block["ffn"]["no_op"]:
            continue
        normed = norm(x, f"{path}.post_attention_layernorm.weight")
        if block["ffn"]["replace_with_linear"]:
            x = x + linear(normed, f"{path}.mlp.linear")
            continue
        gate, up = (linear(normed, f"{path}.mlp.{p}_proj") for p in ("gate", "up"))
        assert gate.shape[1] == as_readers_compute_it(block["ffn"]["ffn_mult"], config["hidden_size"])
        x = x + linear(gate * gate.sigmoid() * up, f"{path}.mlp.down_proj")
    head = "model.embed_tokens" if config["tie_word_embeddings"] else "lm_head"
    return linear(norm(x, "model.norm.weight"), head)


def frequencies(config: dict[str, Any]) -> list[float]:
    """Radians per position of each pair, from the paper and Llama 3.1's reference."""
    scaling, found = config.get("rope_scaling", {}), []
    for pair in range(config["head_dim"] // 2):
        frequency = config["rope_theta"] ** (-2 * pair / config["head_dim"])
        if scaling.get("rope_type") == "linear":
            frequency /= scaling["factor"]
        elif scaling.get("rope_type") == "llama3":
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            turns = scaling["original_max_position_embeddings"] * frequency / (2 * math.pi)
            if turns < low:
                frequency /= scaling["factor"]
            elif turns < high:
                smooth = (turns - low) / (high - low)
                frequency *= (1 - smooth) / scaling["factor"] + smooth
        found.append(frequency)
    return found


def as_readers_compute_it(factor: float, width: int) -> int:
    size = int(2 * factor * width / 3)
    return size if size % 256 == 0 else size + 256 - size % 256
