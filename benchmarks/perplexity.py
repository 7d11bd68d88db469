"""Perplexity beside a bare batched forward loop on the same windows: the same figure, and the ratio of their times.

    python benchmarks/perplexity.py MODEL TEXT [--windows N] [--window N] [--rounds N]

MODEL is a directory, TEXT what ``--data`` takes (``wikitext2=wiki.test.raw``). The two take turns in one process; the
ratio is that of the shortest time of each. The bare loop knows nothing of protocols: it tokenises, cuts, runs the model
and sums float32 losses.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import torch

from gatenorm import open_model
from gatenorm.evaluation.core.text import Text, read_text
from gatenorm.evaluation.tasks.perplexity import DEFAULT_WINDOW, Protocol, perplexity
from gatenorm.models.loading import load, load_tokenizer


def bare(model: Any, tokenizer: Any, text: Text, window: int, limit: int | None, batch: int) -> float:
    ids = torch.tensor(tokenizer(text.content, verbose=False)["input_ids"])
    windows = ids[: len(ids) // window * window].view(-1, window)[:limit]
    total = 0.0
    with torch.inference_mode():
        for part in windows.split(batch):
            logits = model(input_ids=part, use_cache=False).logits[:, :-1]
            total += torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), part[:, 1:].flatten(), reduction="sum"
            ).item()
    return math.exp(total / (windows.numel() - len(windows)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--windows", type=int)
    parser.add_argument("--window", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args()
    layout = open_model(given.model)
    model, tokenizer = load(layout.checkpoint.directory, dtype=torch.float32), load_tokenizer(given.model)
    text = read_text(given.text)
    window = given.window or min(layout.context or DEFAULT_WINDOW, DEFAULT_WINDOW)
    protocol = Protocol(window, limit=given.windows, batch_size=given.batch)
    seconds: dict[str, list[float]] = {"gatenorm": [], "bare": []}
    figures: dict[str, float] = {}
    # Taken before anything is timed: a first pass pays for what later ones find ready.
    bare(model, tokenizer, text, window, 1, given.batch)
    for _ in range(given.rounds):
        for name, measure in (
            ("gatenorm", lambda: perplexity(model, tokenizer, text, protocol).perplexity),
            ("bare", lambda: bare(model, tokenizer, text, window, given.windows, given.batch)),
        ):
            began = time.perf_counter()
            figures[name] = measure()
            seconds[name].append(time.perf_counter() - began)
    best = {name: min(times) for name, times in seconds.items()}
    print(f"{layout.identity().name} on {text.name}, windows of {window}, batches of {given.batch}")
    for name in ("gatenorm", "bare"):
        print(f"  {name:8} perplexity {figures[name]:.6f}  {best[name]:.2f} s (shortest of {given.rounds})")
    difference = figures["gatenorm"] / figures["bare"] - 1
    print(f"  difference {difference:+.1e}, ratio of times {best['gatenorm'] / best['bare']:.3f}")


if __name__ == "__main__":
    main()
