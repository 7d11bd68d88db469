"""A checkpoint of LLaMA-13B's shape in 4.2 GB of disk instead of 26: only q and k hold values, the rest are holes.

python benchmarks/sparse_model.py DIRECTORY
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from gatenorm.checkpoint import TensorSpec
from gatenorm.checkpoint.formats.safetensors.header import write_header

LAYERS, WIDTH, HEADS, HEAD_DIM, VOCABULARY, MLP = 40, 5120, 40, 128, 32000, 13824
SHARD_BYTES = 5_000_000_000
INDEX = "model.safetensors.index.json"

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": MLP,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 2048,
    "vocab_size": VOCABULARY,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def sparse_model(directory: Path, layers: int = LAYERS) -> Path:
    """Write the checkpoint, or reuse the one that a finished run left in ``directory``.

    Query and key weights are normal random numbers (seeded; a little smaller with depth), norm gains are one, every
    other byte is a hole in the file and reads as zero.

    Returns:
        ``directory``.
    """
    index = directory / INDEX
    config = CONFIG | {"num_hidden_layers": layers}
    if index.exists() and json.loads((directory / "config.json").read_text()) == config:
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    room = SHARD_BYTES
    for name, shape in _tensors(layers):
        size = 2 * int(np.prod(shape))
        if size > room and shards[-1]:
            shards.append([])
            room = SHARD_BYTES
        shards[-1].append((name, shape))
        room -= size
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_shard(directory / file, shard)
        weight_map |= dict.fromkeys((name for name, _ in shard), file)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    # The index comes last: its presence says that everything else is whole.
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}, indent=2) + "\n")
    return directory


def _tensors(layers: int) -> list[tuple[str, tuple[int, ...]]]:
    inner = HEADS * HEAD_DIM
    tensors: list[tuple[str, tuple[int, ...]]] = [("model.embed_tokens.weight", (VOCABULARY, WIDTH))]
    for layer in range(layers):
        block = {
            "input_layernorm": (WIDTH,),
            "mlp.down_proj": (WIDTH, MLP),
            "mlp.gate_proj": (MLP, WIDTH),
            "mlp.up_proj": (MLP, WIDTH),
            "post_attention_layernorm": (WIDTH,),
            "self_attn.k_proj": (inner, WIDTH),
            "self_attn.o_proj": (WIDTH, inner),
            "self_attn.q_proj": (inner, WIDTH),
            "self_attn.v_proj": (inner, WIDTH),
        }
        tensors += [(f"model.layers.{layer}.{module}.weight", shape) for module, shape in block.items()]
    return [*tensors, ("model.norm.weight", (WIDTH,)), ("lm_head.weight", (VOCABULARY, WIDTH))]


def _write_shard(path: Path, shard: list[tuple[str, tuple[int, ...]]]) -> None:
    placed, offset = [], 0
    for name, shape in shard:
        size = 2 * int(np.prod(shape))
        placed.append((TensorSpec(name, "BF16", shape, size), offset))
        offset += size
    header = write_header((tensor for tensor, _ in placed), {"format": "pt"})
    with path.open("wb") as handle:
        handle.write(header)
        for tensor, begin in placed:
            if "q_proj" in tensor.name or "k_proj" in tensor.name or "norm" in tensor.name:
                handle.seek(len(header) + begin)
                handle.write(_values(tensor).tobytes())
        handle.truncate(len(header) + offset)
        handle.flush()
        os.fsync(handle.fileno())


def _values(tensor: TensorSpec) -> np.ndarray:
    """bf16 bits of a tensor's values."""
    if "norm" in tensor.name:
        return np.full(tensor.shape, 0x3F80, "<u2")
    layer, module = int(tensor.name.split(".")[2]), tensor.name.split(".")[4]
    random = np.random.default_rng([layer, module == "k_proj"])
    values = random.standard_normal(tensor.shape, np.float32) * np.float32(0.02 * 0.98**layer)
    return (values.view("<u4") >> 16).astype("<u2")


if __name__ == "__main__":
    print(sparse_model(Path(sys.argv[1])))
