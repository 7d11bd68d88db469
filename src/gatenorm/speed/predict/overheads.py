"""What a sublayer costs in transformers before it has moved a byte: Python, module calls, the start of each kernel.

Measured on a Llama so narrow that nothing else remains of it. The cost model adds these seconds to every sublayer where
they are known; in large models they vanish beside the kernels, in small ones they are most of a decoded token.
"""

from __future__ import annotations

import statistics
from typing import Any

from msgspec.structs import replace

from gatenorm.engines.transformers.profiler import recording
from gatenorm.records.machine import Machine

_LAYERS, _STEPS = 4, 40
_BLOCK = {
    "path": "model.layers",
    "attention": ("self_attn", "input_layernorm"),
    "before": (),
    "branch": ("post_attention_layernorm", "mlp"),
    "after": (),
}


def with_overheads(machine: Machine, dtype: str, device: str = "cpu", threads: int | None = None) -> Machine:
    """The machine with the overheads that transformers has on it now, in about a second.

    On an accelerator, which works on while Python is ahead of it, nothing is added: there overheads hide.
    """
    import torch

    if device != "cpu":
        return machine
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        attention, mlp = _measured(getattr(torch, dtype))
    finally:
        torch.set_num_threads(before)
    return replace(machine, overheads={"attention": attention, "mlp": mlp})


def _measured(dtype: Any) -> tuple[float, float]:
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
    attention, mlp = [], []
    with torch.inference_mode():
        for _ in range(_STEPS):
            with recording(model, _BLOCK, ()) as recorder:
                begin = recorder.watch.read()
                cache = model(token, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values
                step = recorder.profile(begin, recorder.watch.read())
            attention.append(sum(step.attention.values()) / _LAYERS)
            mlp.append(sum(step.mlp) / _LAYERS)
    warm = _STEPS // 4
    return statistics.median(attention[warm:]), statistics.median(mlp[warm:])
