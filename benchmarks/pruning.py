"""Pruning on disk against ``cp`` on the same files, and the memory that it takes.

A dense (not sparse) 13B-shaped bf16 checkpoint, cut down to as many layers as ``--gigabytes`` allows, is pruned and
copied in turn, A B A B, from a warm page cache. Both write to the same file system. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WIDTH, MLP, HEADS, VOCABULARY = 5120, 13824, 40, 32000


def dense_model(directory: Path, gigabytes: float) -> None:
    """Write shards of random bytes of about that size, one layer a shard, with an index and a config."""
    from gatenorm.checkpoint import TensorSpec
    from gatenorm.checkpoint.formats.safetensors.header import write_header

    attention = {f"self_attn.{r}_proj.weight": (WIDTH, WIDTH) for r in "qkvo"} | {"input_layernorm.weight": (WIDTH,)}
    mlp = {
        "mlp.gate_proj.weight": (MLP, WIDTH),
        "mlp.up_proj.weight": (MLP, WIDTH),
        "mlp.down_proj.weight": (WIDTH, MLP),
    }
    block = attention | mlp | {"post_attention_layernorm.weight": (WIDTH,)}
    block_bytes = 2 * sum(int(np.prod(shape)) for shape in block.values())
    layers = max(4, round(gigabytes * 1e9 / block_bytes))
    noise = np.random.default_rng(0).integers(0, 255, 64 << 20, np.uint8).tobytes()
    weight_map = {}
    for layer in range(layers):
        file, position, placed = f"model-{layer + 1:05d}-of-{layers:05d}.safetensors", 0, []
        for name, shape in block.items():
            full = f"model.layers.{layer}.{name}"
            size = 2 * int(np.prod(shape))
            placed.append(TensorSpec(full, "BF16", shape, size))
            weight_map[full] = file
            position += size
        with (directory / file).open("wb") as out:
            out.write(write_header(placed, {"format": "pt"}))
            for start in range(0, position, len(noise)):
                out.write(noise[: min(len(noise), position - start)])
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": layers,
        "hidden_size": WIDTH,
        "intermediate_size": MLP,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048,
    }
    (directory / "config.json").write_text(json.dumps(config))


PRUNE = """
import resource, sys, threading, time
from pathlib import Path
from gatenorm import api
def anonymous():
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1]) * 1024
api.open_model
bare, peak, done = anonymous(), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous()); time.sleep(0.005)
thread = threading.Thread(target=watch); thread.start()
started = time.perf_counter()
model = sys.argv[1]
plan = api.plan(model, drop=[0])
api.prune(model, sys.argv[2], plan)
seconds = time.perf_counter() - started
done = True; thread.join()
print(seconds, sum(p.stat().st_size for p in Path(sys.argv[2]).glob("*.safetensors")), peak - bare)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=None, help="where to work; needs twice that room")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as temporary:
        root = Path(temporary)
        source = root / "source"
        source.mkdir()
        dense_model(source, arguments.gigabytes)
        total = sum(p.stat().st_size for p in source.iterdir())
        copied, pruned, memory = [], [], []
        for round_ in range(arguments.rounds + 1):
            subprocess.run(["sync"], check=True)
            started = time.perf_counter()
            subprocess.run(["cp", "-r", str(source), str(root / "copy")], check=True)
            seconds_copy = time.perf_counter() - started
            shutil.rmtree(root / "copy")
            subprocess.run(["sync"], check=True)
            answer = subprocess.run(
                [sys.executable, "-c", PRUNE, str(source), str(root / "pruned")],
                check=True,
                capture_output=True,
                text=True,
            )
            seconds_prune, written, peak = map(float, answer.stdout.split())
            shutil.rmtree(root / "pruned")
            if round_:  # the first round warms the page cache
                copied.append(total / seconds_copy / 1e9)
                pruned.append(written / seconds_prune / 1e9)
                memory.append(peak / 1e6)
    ratios = [p / c for p, c in zip(pruned, copied, strict=True)]
    print(f"{total / 1e9:.1f} GB, {arguments.rounds} rounds, cp and prune in turn")
    print("| | median | spread |\n|---|---:|---|")
    for name, values, unit in (("cp", copied, "GB/s"), ("prune", pruned, "GB/s"), ("prune / cp, by round", ratios, "")):
        print(f"| {name} | {statistics.median(values):.2f} {unit} | {min(values):.2f} to {max(values):.2f} |")
    print(f"| anonymous memory above the bare process | {statistics.median(memory):.0f} MB | up to {max(memory):.0f} |")


if __name__ == "__main__":
    main()
