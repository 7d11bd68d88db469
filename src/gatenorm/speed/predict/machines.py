"""Machines as two numbers: how fast they move bytes and how fast they multiply. ``machines.json`` holds the named ones.

A named machine's figures are its vendor's peaks, which no program reaches; since speed-ups are ratios of times, only
the relation of the two matters. ``this`` is the machine at hand, measured in a second or two.

Its overheads are what a sublayer costs in transformers before it has moved a byte: Python, module calls, the start of
each kernel. They are measured on a Llama so narrow that nothing else remains of it. The cost model adds these seconds
to every sublayer: in large models they vanish beside the kernels, in small ones they are most of a decoded token.
"""

import json
import os
import time
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import resources
from itertools import cycle
from typing import Any

from msgspec.structs import replace

from gatenorm.engines import Setting
from gatenorm.engines.transformers.profiler import recording
from gatenorm.errors import EvaluationError
from gatenorm.families import families
from gatenorm.models.threads import threads
from gatenorm.records.machine import Machine
from gatenorm.records.serialization import from_json

THIS = "this"
DEFAULT = "h100-sxm"
# Larger than the caches of any machine of today, so that the memory itself is measured.
_STREAMED_BYTES = 256 << 20
# What is timed at once: the side of a square matrix, heads, and in how many pieces the memory is read. Where others use
# the processor, threads that wait for one another find no moment together: one thread and short work do.
_LONG, _SHORT = (1024, 8, 1), (512, 2, 16)


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
        raise EvaluationError.unknown("machine", name, [*machines(), THIS])
    return machines()[name]


@lru_cache(maxsize=8)
def measured(dtype: str = "float32", device: str = "cpu", threads: int | None = None) -> Machine:
    """This machine, by the kernels that models run: a product of matrices, one of a matrix and a vector, attention.

    The best of many runs each, long ones in all threads and short ones in one, since others on the machine only ever
    slow it down. Without torch, NumPy stands in, in float32 and without an attention kernel.
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


def _by_torch(dtype: str, device: str, count: int | None) -> Machine:
    import torch

    used, found = count or torch.get_num_threads(), []
    with torch.inference_mode():
        # Ones, not noise: no kernel here is faster for them, and drawing noise would take longer than measuring.
        kind = getattr(torch, dtype)
        large = torch.ones(_STREAMED_BYTES // kind.itemsize // 4096, 4096, dtype=kind, device=device)
        for many, sizes in ((used, _LONG), *(((1, _SHORT),) if device == "cpu" else ())):
            with threads(many):
                found.append(_timed(large, *sizes))
    rate, bandwidth, attention = map(max, zip(*found, strict=True))
    where = f"{used} threads" if device == "cpu" else device
    return Machine(
        name=THIS,
        summary=f"this machine, {where}",
        bandwidth=bandwidth,
        rates={dtype: rate},
        attention_rates={dtype: attention},
        source=f"measured in {dtype}: product of 1,024 x 1,024, matrix by vector, causal attention over 1,024 tokens",
    )


def _timed(large: Any, side: int, heads: int, parts: int) -> tuple[float, float, float]:
    """FLOP/s of products, bytes a second of ``large``, read in so many parts, and FLOP/s of attention."""
    import torch

    like = {"dtype": large.dtype, "device": large.device}
    wait = torch.cuda.synchronize if large.is_cuda else _nothing
    a, b = (torch.ones(side, side, **like) for _ in range(2))
    rate = 2 * side**3 / _best(lambda: torch.mm(a, b), 0.3, wait)
    one, pieces, linear = torch.ones(1, 4096, **like), cycle(large.chunk(parts)), torch.nn.functional.linear
    bandwidth = _STREAMED_BYTES / parts / _best(lambda: linear(one, next(pieces)), 0.3, wait)
    q, attend = torch.ones(1, heads, 1024, 64, **like), torch.nn.functional.scaled_dot_product_attention
    flops = 4 * heads * 64 * 1024 * 1025 // 2  # pairs that a causal mask leaves
    return rate, bandwidth, flops / _best(lambda: attend(q, q, q, is_causal=True), 0.3, wait)


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


_LAYERS, _STEPS = 4, 40


def with_overheads(machine: Machine, dtype: str, device: str = "cpu") -> Machine:
    """The machine with the overheads that transformers has on it, of sublayers and of a linear map, in a second.

    They are one thread's: where others use the processor, a second one would be waited for far longer.
    On an accelerator, which works on while Python is ahead of it, nothing is added: there overheads hide.
    """
    import torch

    if device != "cpu":
        return machine
    with threads(1):
        overheads = _measured(getattr(torch, dtype))
    return replace(machine, overheads=overheads)


def machine_for(name: str, setting: Setting, *, overheads: bool) -> Machine:
    """The machine to predict for; ``this`` is measured as ``setting`` has it, with what transformers itself takes."""
    dtype, device = setting.dtype, setting.device
    computed = dtype if dtype != "auto" else "float32" if device == "cpu" else "bfloat16"
    base = machine(name, computed, device, setting.threads)
    return with_overheads(base, computed, device) if name == THIS and overheads else base


def _measured(dtype: Any) -> dict[str, float]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=_LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).to(dtype).eval()
    token, cache = torch.zeros(1, 1, dtype=torch.long), None
    attention, mlp, operation = [], [], []
    # A map in an attention's place: the norm, one product and the residual add.
    norm, product = model.model.norm, torch.nn.Linear(32, 32, bias=False, dtype=dtype)
    stream = torch.zeros(1, 1, 32, dtype=dtype)
    with torch.inference_mode():
        for _ in range(_STEPS):
            with recording(model, families()["llama"].block, ()) as recorder:
                begin = recorder.watch.read()
                cache = model(token, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values
                step = recorder.profile(begin, recorder.watch.read())
            attention.append(sum(step.attention.values()) / _LAYERS)
            mlp.append(sum(step.mlp) / _LAYERS)
            began = time.perf_counter()
            stream = stream + product(norm(stream))
            operation.append(time.perf_counter() - began)
    warm = _STEPS // 4
    overheads = {"attention": attention, "mlp": mlp, "operation": operation}
    # The best step, as of kernels: others on the machine only ever slow it down.
    return {name: min(seconds[warm:]) for name, seconds in overheads.items()}
