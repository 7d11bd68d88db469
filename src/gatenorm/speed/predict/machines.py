"""Machines as two numbers: how fast they move bytes and how fast they multiply. ``machines.json`` holds the named ones.

A named machine's figures are its vendor's peaks, which no program reaches; since speed-ups are ratios of times, only
the relation of the two matters. ``this`` is the machine at hand, measured in a second or two.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import cache
from importlib import resources

from gatenorm.errors import EvaluationError, did_you_mean
from gatenorm.records.machine import Machine
from gatenorm.records.serialization import from_json

THIS = "this"
DEFAULT = "h100-sxm"
# Larger than the caches of any machine of today, so that the memory itself is measured.
_STREAMED_BYTES = 256 << 20


@cache
def machines() -> dict[str, Machine]:
    """The packaged machines by name."""
    text = resources.files("gatenorm.speed.predict").joinpath("machines.json").read_text(encoding="utf-8")
    return {known.name: known for known in from_json(list[Machine], json.loads(text), "the machines")}


def machine(name: str, dtype: str = "float32", device: str = "cpu", threads: int | None = None) -> Machine:
    """The machine of that name; ``this`` is measured, which takes a second or two.

    Args:
        dtype: in which type ``this`` is measured.
        device: which of its devices.
        threads: how many of its cores; all by default.

    Raises:
        EvaluationError: an unknown name.
    """
    if name == THIS:
        return measured(dtype, device, threads)
    if name not in machines():
        hint = did_you_mean(name, [*machines(), THIS])
        raise EvaluationError("machine-unknown", "is not known", field="machine", given=name, hint=hint)
    return machines()[name]


def measured(dtype: str = "float32", device: str = "cpu", threads: int | None = None) -> Machine:
    """This machine, by the kernels that models run: a product of matrices, one of a matrix and a vector, attention.

    The best of a few runs each, since others on the machine only ever slow it down. Without torch, NumPy stands in,
    in float32 and without an attention kernel.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        return _by_numpy()
    return _by_torch(dtype, device, threads)


def _by_numpy() -> Machine:
    import numpy as np

    a = np.ones((1024, 1024), np.float32)
    rate = 2 * 1024**3 / _best(lambda: a @ a, 0.3)
    large = np.ones(_STREAMED_BYTES // 4, np.float32).reshape(-1, 4096)
    vector = np.ones(4096, np.float32)
    bandwidth = large.nbytes / _best(lambda: large @ vector, 0.5)
    return Machine(
        name=THIS,
        summary=f"this machine, {os.cpu_count()} cores",
        bandwidth=bandwidth,
        rates={"float32": rate},
        source="measured by NumPy",
    )


def _by_torch(dtype: str, device: str, threads: int | None) -> Machine:
    import torch

    kind = getattr(torch, dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with torch.inference_mode():
            wait = torch.cuda.synchronize if device.startswith("cuda") else _nothing
            # Ones, not noise: no kernel here is faster for them, and drawing noise would take longer than measuring.
            a, b = (torch.ones(1024, 1024, dtype=kind, device=device) for _ in range(2))
            rate = 2 * 1024**3 / _best(lambda: torch.mm(a, b), 0.4, wait)
            large = torch.ones(_STREAMED_BYTES // kind.itemsize // 4096, 4096, dtype=kind, device=device)
            one = torch.ones(1, 4096, dtype=kind, device=device)
            linear = torch.nn.functional.linear
            bandwidth = _STREAMED_BYTES / _best(lambda: linear(one, large), 0.5, wait)
            q = torch.ones(1, 8, 1024, 64, dtype=kind, device=device)
            attend = torch.nn.functional.scaled_dot_product_attention
            flops = 4 * 8 * 64 * 1024 * 1025 // 2  # pairs that a causal mask leaves
            attention = flops / _best(lambda: attend(q, q, q, is_causal=True), 0.4, wait)
    finally:
        used = torch.get_num_threads()
        torch.set_num_threads(before)
    where = f"{used} threads" if device == "cpu" else device
    return Machine(
        name=THIS,
        summary=f"this machine, {where}",
        bandwidth=bandwidth,
        rates={dtype: rate},
        attention_rates={dtype: attention},
        source=f"measured in {dtype}: product of 1,024 x 1,024, matrix by vector, causal attention over 1,024 tokens",
    )


def _nothing() -> None:
    return None


def _best(run: Callable[[], object], budget: float, wait: Callable[[], None] = _nothing) -> float:
    run()
    wait()
    shortest, spent, runs = float("inf"), 0.0, 0
    while runs < 3 or spent < budget:
        began = time.perf_counter()
        run()
        wait()
        seconds = time.perf_counter() - began
        shortest, spent, runs = min(shortest, seconds), spent + seconds, runs + 1
    return shortest
