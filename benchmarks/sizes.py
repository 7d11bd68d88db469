"""Scoring the largest open models from sparse files: real headers, indexes and configurations, weights that are holes.

A hole takes no disk and reads as zeros, so headers, memory, copies and arithmetic are those of the real model, and the
disk is not. One number of every query and key weight is 1, so that no score is zero. Each model is scored in a process
of its own; the floor is reading the same bytes into one buffer. Times are CPU seconds, which a busy machine lengthens
less than wall time:

    python benchmarks/sizes.py [--models 13B,70B,405B,1T] [--layers 4]

With --layers only so many layers are read and scored, of a model that has them all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from scoring import AnonymousMemory

from gatenorm.checkpoint import TensorSpec, open_store
from gatenorm.checkpoint.formats.safetensors.header import write_header
from gatenorm.criteria.compute.backend import backend
from gatenorm.criteria.registry import criterion
from gatenorm.families import AttentionWeights, Layout, attention_weights, detect_layout

Shapes = Iterator[tuple[str, tuple[int, ...]]]
INDEX = "model.safetensors.index.json"
# 1.0 in bfloat16.
SHARD_BYTES, ITEMSIZE, ONE, CHUNK = 5_000_000_000, 2, b"\x80\x3f", 1 << 20
COMPUTE = backend()


def llama(width: int, layers: int, heads: int, kv_heads: int, mlp: int, words: int) -> tuple[dict[str, Any], Shapes]:
    """A dense Llama of that shape: its configuration and the shapes of its tensors."""
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width, "vocab_size": words}
    config |= {"intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": heads}
    config |= {"num_key_value_heads": kv_heads, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}

    def shapes() -> Shapes:
        kv = width // heads * kv_heads
        yield from _around(width, words)
        for layer in range(layers):
            attention = {"q": (width, width), "k": (kv, width), "v": (kv, width), "o": (width, width)}
            for name, shape in attention.items():
                yield f"model.layers.{layer}.self_attn.{name}_proj.weight", shape
            yield from _mlp(f"model.layers.{layer}.mlp", width, mlp)
            yield from _norms(layer, width)

    return config, shapes()


def kimi() -> tuple[dict[str, Any], Shapes]:
    """A mixture of a trillion weights in the shape of Kimi-K2, which has DeepSeek-V3's architecture."""
    width, layers, heads, q_rank, kv_rank, experts, mlp, own, turning = 7168, 61, 64, 1536, 512, 384, 2048, 128, 64
    config = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": width}
    config |= {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": heads}
    config |= {"q_lora_rank": q_rank, "kv_lora_rank": kv_rank, "qk_nope_head_dim": own, "qk_rope_head_dim": turning}
    config |= {"v_head_dim": own, "n_routed_experts": experts, "n_shared_experts": 1, "num_experts_per_tok": 8}
    config |= {"moe_intermediate_size": mlp, "intermediate_size": 18432, "first_k_dense_replace": 1, "n_group": 1}
    config |= {"topk_group": 1, "vocab_size": 163840, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6}

    def shapes() -> Shapes:
        yield from _around(width, 163840)
        for layer in range(layers):
            attention = {"q_a_proj": (q_rank, width), "q_a_layernorm": (q_rank,), "kv_a_layernorm": (kv_rank,)}
            attention |= {"q_b_proj": (heads * (own + turning), q_rank), "o_proj": (width, heads * own)}
            attention |= {"kv_a_proj_with_mqa": (kv_rank + turning, width), "kv_b_proj": (heads * 2 * own, kv_rank)}
            for name, shape in attention.items():
                yield f"model.layers.{layer}.self_attn.{name}.weight", shape
            block = f"model.layers.{layer}.mlp"
            yield from _norms(layer, width)
            if layer == 0:
                yield from _mlp(block, width, 18432)
                continue
            yield f"{block}.gate.weight", (experts, width)
            yield f"{block}.gate.e_score_correction_bias", (experts,)
            for expert in ("shared_experts", *(f"experts.{n}" for n in range(experts))):
                yield from _mlp(f"{block}.{expert}", width, mlp)

    return config, shapes()


MODELS = {
    "13B": lambda: llama(5120, 40, 40, 40, 13824, 32000),
    "70B": lambda: llama(8192, 80, 64, 8, 28672, 128256),
    "405B": lambda: llama(16384, 126, 128, 8, 53248, 128256),
    "1T": kimi,
}


def _around(width: int, words: int) -> Shapes:
    yield "model.embed_tokens.weight", (words, width)
    yield "model.norm.weight", (width,)
    yield "lm_head.weight", (words, width)


def _mlp(block: str, width: int, inner: int) -> Shapes:
    for name, shape in {"gate": (inner, width), "up": (inner, width), "down": (width, inner)}.items():
        yield f"{block}.{name}_proj.weight", shape


def _norms(layer: int, width: int) -> Shapes:
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"model.layers.{layer}.{name}.weight", (width,)


def write(directory: Path, config: dict[str, Any], shapes: Shapes) -> int:
    """Write the model as sparse shards with their index; returns how many weights it has."""
    shards: list[list[TensorSpec]] = [[]]
    room = SHARD_BYTES
    for name, shape in shapes:
        tensor = TensorSpec(name, "BF16", shape, ITEMSIZE * prod(shape))
        if tensor.nbytes > room and shards[-1]:
            shards.append([])
            room = SHARD_BYTES
        shards[-1].append(tensor)
        room -= tensor.nbytes
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_shard(directory / file, shard)
        weight_map |= dict.fromkeys((tensor.name for tensor in shard), file)
    (directory / "config.json").write_text(json.dumps({**config, "torch_dtype": "bfloat16"}))
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return sum(tensor.nbytes for shard in shards for tensor in shard) // ITEMSIZE


def _write_shard(path: Path, shard: list[TensorSpec]) -> None:
    header = write_header(shard, {"format": "pt"})
    with path.open("wb") as handle:
        handle.write(header)
        at = len(header)
        for tensor in shard:
            if ".self_attn." in tensor.name:
                handle.seek(at)
                handle.write(ONE)
            at += tensor.nbytes
        handle.truncate(at)


def child(directory: Path, what: str, layers: int) -> dict[str, float]:
    """One measurement in a process that does nothing else: ``bare``, ``read``, or a criterion."""
    began = time.process_time()
    layout = detect_layout(open_store(directory))
    opened = time.process_time()
    chosen = layout.attention_layers[: layers or None]
    watch = AnonymousMemory()
    try:
        for layer in chosen if what != "bare" else ():
            _measure(attention_weights(layout, layer), what)
        seconds = time.process_time() - opened
    finally:  # its thread would keep the process alive
        anonymous = watch.stop()
    size = sum(attention_weights(layout, layer).nbytes(("q", "k")) for layer in chosen)
    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"opened": opened - began, "seconds": seconds, "bytes": size, "layers": len(chosen)}
    return {**found, "anonymous": anonymous, "resident": resident}


def _measure(weights: AttentionWeights, what: str) -> None:
    if what == "read":
        _read(weights.layout, weights)
    else:
        assert np.linalg.norm(criterion(what).formula(weights, COMPUTE)) > 0


def _read(layout: Layout, weights: AttentionWeights) -> None:
    """The bytes of queries and keys, into one buffer."""
    buffer = memoryview(bytearray(CHUNK))
    modules = {module for role in "qk" for module in weights.sources(role)}
    for module in modules:
        part = layout.checkpoint.byte_range(layout.tensor(weights.layer, f"{module}.weight"))
        with part.file.open("rb", buffering=0) as file:
            for offset in range(part.begin, part.end, CHUNK):
                os.preadv(file.fileno(), [buffer[: min(CHUNK, part.end - offset)]], offset)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--criteria", default="gate-norm,gate-norm-heads")
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(Path(options.child[0]), options.child[1], options.layers)))
        return
    columns = (
        "model",
        "weights",
        "disk",
        "opened",
        "what",
        "layers",
        "q, k",
        "CPU",
        "CPU/GB",
        "/ reading",
        "anonymous",
        "resident",
    )
    print("".join(f"{column:>12}" if column != "what" else f"{column:>17}" for column in columns))
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            report(name, Path(folder), options)


def report(name: str, directory: Path, options: argparse.Namespace) -> None:
    """The rows of one model."""
    weights = write(directory, *MODELS[name]())
    disk = sum(512 * file.stat().st_blocks for file in directory.iterdir())
    bare, floor = (spawn(directory, what, options.layers) for what in ("bare", "read"))
    for what in ("read", *options.criteria.split(",")):
        found = floor if what == "read" else spawn(directory, what, options.layers)
        size = found["bytes"] / 1e9
        cells = (name, f"{weights / 1e9:,.0f}e9", f"{disk / 1e6:.1f} MB", f"{found['opened']:.1f} s")
        print("".join(f"{cell:>12}" for cell in cells), end=f"{what:>17}")
        cells = (
            f"{found['layers']:.0f}",
            f"{size:.2f} GB",
            f"{found['seconds']:.1f} s",
            f"{found['seconds'] / size:.2f} s",
        )
        more = (found["anonymous"] - bare["anonymous"], found["resident"] - bare["resident"])
        cells += (f"{found['seconds'] / floor['seconds']:.1f}", *(f"{value / 1e6:,.0f} MB" for value in more))
        print("".join(f"{cell:>12}" for cell in cells), flush=True)


def spawn(directory: Path, what: str, layers: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", str(directory), what, "--layers", str(layers)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


if __name__ == "__main__":
    main()
