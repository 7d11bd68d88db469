"""What criteria that run the model cost: their statistics over bare forward passes, and beside weights alone.

    python benchmarks/forward_criteria.py [--part statistics,prefix,ratio] [--model MODEL] [--rounds 5] [--tokens 4096]

``statistics``: one pass for ``cosine``, ``norm-ratio`` and ``block-cosine`` against the same forward passes without
them, in turns; on blocks of three widths with random weights, and on MODEL where one is given.

``prefix``: ``leave-one-out`` and a round of ``perplexity-greedy`` that run what lies in front of a removed layer once,
against the whole model for every removal, in turns; on MODEL, the built-in one by default.

``ratio``: ``gate-norm`` against ``cosine`` on 256 samples of 2,048 tokens, both on one block of a 13B shape (random
bfloat16 weights, layer by layer from the same file), in turns. Gate-norm is taken times 40 for the blocks; of cosine,
--samples of 2,048 tokens run, and what one more sample costs the block is taken times 40 and 256. What cosine spends on
reading weights is left out, to its favour.

Seconds are the processor's (``--clock wall`` for the clock on the wall): beside other work they are what compares.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gatenorm import score, session
from gatenorm.calibration.layerwise import observe_layer_by_layer
from gatenorm.calibration.samples import Calibration, Samples, batches
from gatenorm.calibration.shared_prefix import SharedPrefix
from gatenorm.checkpoint import open_store
from gatenorm.criteria.ablation.leave_one_out import leave_one_out
from gatenorm.criteria.streams import observe
from gatenorm.families import Layout, detect_layout
from gatenorm.models.forward import inputs, negative_log_likelihood, padded

# Width, MLP, heads, key/value heads, blocks, dtype.
SHAPES = {
    "novels-16L": (192, 512, 6, 2, 16, torch.float32),
    "1B": (2048, 5632, 32, 4, 4, torch.bfloat16),
    "7B": (4096, 11008, 32, 32, 1, torch.bfloat16),
}
BLOCKS, SAMPLES, LENGTH = 40, 256, 2048
CLOCKS = {"processor": time.process_time, "wall": time.perf_counter}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", default="statistics,prefix,ratio")
    parser.add_argument("--model", help="a trained model, as every command of gatenorm names one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--samples", type=int, default=1, help="of 2,048 tokens, for the ratio")
    parser.add_argument("--clock", choices=CLOCKS, default="processor")
    options = parser.parse_args()
    for part in options.part.split(","):
        {"statistics": statistics_cost, "prefix": prefix_gain, "ratio": ratio}[part](options)


def in_turns(options: argparse.Namespace, warmups: int = 1, **measures: Callable[[], object]) -> dict[str, list[float]]:
    """Seconds by name and round, after so many runs each to warm up: A B A B."""
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    now = CLOCKS[options.clock]
    for turn in range(options.rounds + warmups):
        for name, measure in measures.items():
            began = now()
            measure()
            if turn >= warmups:
                seconds[name].append(now() - began)
    return seconds


def spread(over: list[float], under: list[float]) -> str:
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def statistics_cost(options: argparse.Namespace) -> None:
    """The sums beside the passes that they are taken in."""
    print(f"statistics / bare passes, {options.tokens} random tokens, {options.rounds} rounds; {environment()}")
    with tempfile.TemporaryDirectory() as directory:
        for name, shape in SHAPES.items():
            width, _, _, _, blocks, dtype = shape
            layout = random_model(Path(directory) / name, shape)
            model = session(layout, dtype=str(dtype).removeprefix("torch.")).module
            report_statistics(f"{name}: {blocks} blocks of width {width}, {dtype}", model, layout, options)
    if options.model:
        opened = session(options.model)
        report_statistics(f"{options.model}, {opened.model.computes_in}", opened.module, opened.layout, options)


def report_statistics(name: str, model: Any, layout: Layout, options: argparse.Namespace) -> None:
    length = min(1024, model.config.max_position_embeddings)
    given = random_samples(options.tokens // length, length, model.config.vocab_size)

    def bare() -> None:
        with torch.inference_mode():
            for batch in batches(given):
                model.base_model(**inputs(*padded(batch), model.device), use_cache=False)

    seconds = in_turns(options, bare=bare, observed=lambda: observe(model, layout, given))
    print(
        f"  {name:<56} {spread(seconds['observed'], seconds['bare'])}   bare {min(seconds['bare']):.2f} s", flush=True
    )


def prefix_gain(options: argparse.Namespace) -> None:
    """Sharing the blocks in front of a removed layer, beside running the whole model."""
    opened = session(options.model or "demo")
    given = opened.samples(Calibration("random", max(1, options.tokens // 256), 256))
    layers = opened.layout.attention_layers
    shared = SharedPrefix(opened.model, given)

    def naive(gone: Collection[int]) -> float:
        with opened.model.without(gone) as less:
            return sum(negative_log_likelihood(less.module, batch) for batch in batches(given)) / given.predicted

    sets = {
        "leave-one-out": [(), *((layer,) for layer in layers)],
        "a greedy round, 4 gone": [(*layers[2:6], layer) for layer in layers if layer not in layers[2:6]],
    }
    print(f"whole model / shared prefix: {opened.layout.checkpoint.name}, {given.tokens} tokens; {environment()}")
    for name, wanted in sets.items():
        differ = max(abs(a - b) for a, b in zip(shared(wanted), map(naive, wanted), strict=True))
        seconds = in_turns(
            options,
            whole=lambda wanted=wanted: [naive(one) for one in wanted],
            shared=lambda wanted=wanted: shared(wanted),
        )
        print(f"  {name:<26} {spread(seconds['whole'], seconds['shared'])}   largest difference {differ:.1e} nats")
    rises = leave_one_out(shared, layers)
    print(f"  rises from {min(rises.values()):.4f} to {max(rises.values()):.4f}", flush=True)


def ratio(options: argparse.Namespace) -> None:
    """Cosine over gate-norm on a 13B shape."""
    print(f"cosine ({SAMPLES} x {LENGTH} tokens) / gate-norm, 13B shape; {environment()}")
    blocks = 1
    with tempfile.TemporaryDirectory() as directory:
        layout = random_model(Path(directory) / "13B", (5120, 13824, 40, 40, blocks, torch.bfloat16))
        # What a sample costs a block is the difference of two runs: reading the weights is in both.
        few, more = (random_samples(n, LENGTH, 256) for n in (1, 1 + options.samples))
        score(layout, "gate-norm")
        seconds = in_turns(
            options,
            0,  # minutes long: there is nothing to warm up for
            gate=lambda: score(layout, "gate-norm"),
            few=lambda: observe_layer_by_layer(layout, few, dtype="bfloat16"),
            more=lambda: observe_layer_by_layer(layout, more, dtype="bfloat16"),
        )
    gate = [s * BLOCKS / blocks for s in seconds["gate"]]
    a_block = [(b - a) / (options.samples * blocks) for a, b in zip(seconds["few"], seconds["more"], strict=True)]
    cosine = [s * BLOCKS * SAMPLES for s in a_block]
    print(f"  gate-norm, {blocks} block measured x {BLOCKS // blocks}: {statistics.median(gate):.1f} s")
    tokens, one = options.samples * LENGTH, statistics.median(a_block)
    print(f"  cosine, {tokens} more tokens in {blocks} block: {one:.2f} s for a sample and block")
    print(f"  times {BLOCKS} blocks and {SAMPLES} samples: {statistics.median(cosine) / 3600:.1f} h")
    print(f"  ratio {spread(cosine, gate)}", flush=True)


def random_model(directory: Path, shape: tuple[int, int, int, int, int, torch.dtype]) -> Layout:
    """Blocks of a Llama with random weights and next to no vocabulary, on disk."""
    width, mlp, heads, kv_heads, blocks, dtype = shape
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=mlp,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        num_hidden_layers=blocks,
        vocab_size=256,
        max_position_embeddings=LENGTH,
        dtype=dtype,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        LlamaForCausalLM(config).save_pretrained(directory)
    finally:
        torch.set_default_dtype(before)
    return detect_layout(open_store(directory))


def random_samples(count: int, length: int, vocabulary: int) -> Samples:
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, vocabulary, (count, length), generator=draw).tolist()
    return Samples(tuple(map(tuple, tokens)))


def environment() -> str:
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
