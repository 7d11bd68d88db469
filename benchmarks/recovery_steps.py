"""What a step of a recovery that trains maps costs with whole forward passes, and with what never changes left out.

    python benchmarks/recovery_steps.py PRUNED --parent MODEL [--rounds 3] [--batch 2] [--length 256]

A step is distillation: the parent's logits, the student's, the divergence and its gradients. ``whole`` runs both models
from end to end; ``first`` runs the frozen blocks in front once for both, as when a sequence is seen for the first time;
``later`` has their streams from memory. In turns; medians of processor seconds, and whole over each.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import gatenorm
from gatenorm.recovery.shared_forward import SharedForward
from gatenorm.recovery.trained_maps import train_maps
from gatenorm.recovery.training import distillation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pruned")
    parser.add_argument("--parent", required=True)
    for name, default in (("rounds", 3), ("batch", 2), ("length", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    layout = gatenorm.open_model(given.pruned)
    student, parent = (
        gatenorm.load(model, dtype=torch.float32).requires_grad_(False) for model in (given.pruned, given.parent)
    )
    train_maps(student, layout)
    how = {"sequences": given.batch, "length": given.length}
    once, often = (SharedForward(student, parent, layout, passes=passes, **how) for passes in (1.0, 2.0))
    ids = torch.randint(layout.checkpoint.config["vocab_size"], (given.batch, given.length))
    numbers = list(range(given.batch))
    often(student, numbers, ids)

    def whole() -> tuple[Any, Any]:
        with torch.no_grad():
            expected = parent(input_ids=ids, use_cache=False).logits
        return student(input_ids=ids, use_cache=False).logits, expected

    ways: dict[str, Callable[[], tuple[Any, Any]]] = {
        "whole": whole,
        "first": lambda: once(student, numbers, ids),
        "later": lambda: often(student, numbers, ids),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            began = time.process_time()
            distillation(*way()).backward()
            seconds[name].append(time.process_time() - began)
    median = {name: statistics.median(found) for name, found in seconds.items()}
    print(f"frozen blocks in front: {once.begin} of {layout.layers}")
    for name, found in median.items():
        print(f"{name:6} {found:7.2f} s  {median['whole'] / found:.2f}x")


if __name__ == "__main__":
    main()
