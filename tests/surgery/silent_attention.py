"""What pruned models are held against: the stock model with the same attentions silenced, and how both are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from gatenorm.surgery.registration import register_types
from tests.surgery.pruned_models import (
    SHAPES,
    VOCABULARY,
    silenced,
)

register_types()

DROPS = {"middle": (2, 3), "first": (0,), "ends": (0, 5), "all-but-one": (0, 1, 2, 4, 5)}
FULL = ["llama", "gemma2", "gpt2", "gpt-neo"]
every_shape = pytest.mark.parametrize("name", SHAPES)
every_drop = pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
full = pytest.mark.parametrize("name", FULL)
# The other two have eager attention only.
with_attention = pytest.mark.parametrize(
    ("name", "attention"), [*((name, "eager") for name in FULL), ("llama", "sdpa"), ("gpt2", "sdpa")]
)


def load(directory: Path, **options: Any) -> Any:
    model, report = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True, **options)
    assert not any(report.values()), report
    return model


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def padded_batch() -> dict[str, torch.Tensor]:
    """Two texts of different lengths, the shorter one padded on the left."""
    ids, mask = tokens(2, 11), torch.ones(2, 11, dtype=torch.long)
    ids[1, :4], mask[1, :4] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def decode(model: Any, inputs: dict[str, torch.Tensor], **options: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Generated ids, the raw logits of every step [batch, steps, vocabulary], and the cache at the end."""
    result = model.generate(
        **inputs,
        max_new_tokens=9,
        min_new_tokens=9,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return result.sequences, torch.stack(result.logits, dim=1), result.past_key_values


def assert_same_text(pruned: Any, stock: Any, name: str, drop: tuple[int, ...], inputs: Any, **options: Any) -> Any:
    with silenced(stock, name, drop):
        expected_ids, expected, _ = decode(stock, inputs, **options)
    ids, logits, past = decode(pruned, inputs, **options)
    assert torch.equal(ids, expected_ids)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    return past


def files_of(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}
