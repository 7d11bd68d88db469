"""The heads that training starts from look where their docstrings say, near and far."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    config = LlamaConfig(
        vocab_size=600,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        attn_implementation="eager",
    )
    made = LlamaForCausalLM(config)
    torch.manual_seed(0)
    importlib.import_module("initial_weights").initialise(made)
    return made


@pytest.mark.parametrize("distance", [25, 100, 400])
def test_heads_look_back_and_look_up(model: Any, distance: int):
    torch.manual_seed(1)
    words = torch.randperm(600)[: distance + 4]
    words[distance] = words[0]  # ... a b c ... a d: what follows a was b, and after that c.
    with torch.inference_mode():
        attentions = model(input_ids=words[None, : distance + 2], output_attentions=True).attentions
    for head, back in ((0, 1), (1, 2)):
        assert attentions[0][0, head].diagonal(-back)[back:].min() > 0.9
    # The match is rough (20 dimensions for 600 words), but far from an even share over the words so far.
    up = torch.stack([attentions[layer][0] for layer in (1, 2, 3)])
    assert up[:, :2, distance, 1].mean() > 5 / (distance + 1)
    assert up[:, 2:, distance + 1, 2].mean() > 5 / (distance + 1)


def test_every_other_block_starts_as_the_identity(model: Any):
    assert not model.model.layers[4].self_attn.o_proj.weight.any()
    assert not any(layer.mlp.down_proj.weight.any() for layer in model.model.layers)
