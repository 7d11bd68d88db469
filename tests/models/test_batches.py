"""Memory that runs out, as the allocators of several devices say it, and what is no lack of memory."""

from __future__ import annotations

import pytest
import torch

from gatenorm.errors import EvaluationError
from gatenorm.models.batches import BatchBudget, in_batches, memory_for, out_of_memory
from tests.errors import refused


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        MemoryError(),
    ],
)
def test_a_lack_of_memory_is_one_line(error: Exception):
    assert out_of_memory(error)
    with refused("out-of-memory"), memory_for("cpu", 3, 1200):
        raise error
    with (
        refused("out-of-memory", kind=EvaluationError),
        memory_for("cpu", 1, 5),
    ):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes"), ValueError("out of memory")])
def test_other_errors_pass(error: Exception):
    assert not out_of_memory(error)
    with pytest.raises(type(error), match=str(error)), memory_for("cpu", 1, 5):
        raise error


def test_batches_hold_items_of_like_length_the_longest_first():
    items = ["aa", "b", "cccc", "ddd", "e"]
    found = list(in_batches(BatchBudget("cpu", 10, 2), items, "+".join, len))
    assert found == [(["cccc", "ddd"], "cccc+ddd"), (["aa", "b"], "aa+b"), (["e"], "e")]
