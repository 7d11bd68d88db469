"""What loads a quantised model loads it pruned: transformers' own loaders, those of them that run on a CPU."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import gatenorm
from gatenorm.checkpoint import open_store
from tests.checkpoint.quantisers import CASES, write

DROPPED = (0, 9)
NEEDS = {"compressed": "compressed_tensors", "bitsandbytes": "bitsandbytes"}
# Of the rest: the loaders of GPTQ, AWQ and fbgemm FP8 want a GPU or a build; asymmetric packed integers of
# compressed-tensors have zeros of a shape that transformers 5.23 does not expect.
LOADED = (
    *("fp8-block", "compressed-int8", "compressed-int8-asymmetric", "compressed-fp8", "compressed-int4"),
    *("compressed-int3", "bitsandbytes-nf4", "bitsandbytes-nf4-nested", "bitsandbytes-8bit"),
)
WITHOUT_GATENORM = """
import sys, torch, transformers
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16, trust_remote_code=True)
assert "gatenorm" not in sys.modules
torch.save(model(torch.arange(5, 37)[None]).logits, sys.argv[2])
"""
IDS = torch.arange(5, 37)[None]


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits.float()


@pytest.mark.parametrize("name", LOADED)
def test_the_pruned_model_is_the_quantised_one_with_its_attention_silenced(name: str, shared: Path, tmp_path: Path):
    needed = NEEDS.get(name.partition("-")[0])
    if needed:
        pytest.importorskip(needed)
    quantised, pruned = tmp_path / "quantised", tmp_path / "pruned"
    write(CASES[name], shared / "models/novels-16L", quantised, tmp_path / "whole")
    gatenorm.prune(quantised, pruned, gatenorm.plan(quantised, drop=DROPPED))
    model = gatenorm.load(quantised, dtype=torch.bfloat16)
    for layer in DROPPED:
        model.model.layers[layer].self_attn.register_forward_hook(
            lambda _, given, put: (torch.zeros_like(put[0]), None)
        )
    expected = logits(model)
    torch.testing.assert_close(logits(gatenorm.load(pruned, dtype=torch.bfloat16)), expected, rtol=0, atol=0)
    if name == "fp8-block":
        code = [sys.executable, "-c", WITHOUT_GATENORM, str(pruned), str(tmp_path / "logits.pt")]
        subprocess.run(code, check=True, capture_output=True)
        torch.testing.assert_close(torch.load(tmp_path / "logits.pt").float(), expected, rtol=0, atol=0)


def mxfp4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Blocks and scales of experts [experts, in, out], and what they stand for."""
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    rows = weight.swapaxes(1, 2).reshape(len(weight), weight.shape[2], -1, 32)
    exponents = (rows.abs().amax(-1) / 6).log2().ceil().clamp(-100, 100)
    scaled = rows / exponents.exp2()[..., None]
    codes = (scaled.abs()[..., None] - values).abs().argmin(-1)
    whole = values[codes] * scaled.sign() * exponents.exp2()[..., None]
    codes += 8 * (scaled < 0)
    pairs = codes.reshape(*codes.shape[:-1], 16, 2)
    blocks = (pairs[..., 0] + 16 * pairs[..., 1]).to(torch.uint8)
    return blocks, (exponents + 127).to(torch.uint8), whole.reshape(*rows.shape[:2], -1).swapaxes(1, 2).contiguous()


def test_gpt_oss_with_experts_in_mxfp4(tmp_path: Path):
    """Its attention is stored as it is; experts are read by nothing, copied, and loaded."""
    config = transformers.GptOssConfig(
        vocab_size=96, hidden_size=64, intermediate_size=32, num_hidden_layers=4, num_attention_heads=4, head_dim=16,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, eos_token_id=0, pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        layer_types=["sliding_attention", "full_attention"] * 2,
    )  # fmt: skip
    torch.manual_seed(2)
    plain, quantised = tmp_path / "plain", tmp_path / "quantised"
    model = transformers.GptOssForCausalLM(copy.deepcopy(config)).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.5, 0.3) if parameter.ndim == 1 else parameter.normal_(0, 0.15)
    model.save_pretrained(plain)
    model.save_pretrained(quantised)
    stored, same = {}, {}
    for name, tensor in load_file(plain / "model.safetensors").items():
        if name.endswith(("gate_up_proj", "down_proj")):
            stored[name + "_blocks"], stored[name + "_scales"], whole = mxfp4(tensor.float())
            same[name] = whole.to(torch.bfloat16)
        else:
            stored[name] = same[name] = tensor.clone()
    save_file(stored, quantised / "model.safetensors", {"format": "pt"})
    save_file(same, plain / "model.safetensors", {"format": "pt"})
    settings = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    described = json.loads((quantised / "config.json").read_text())
    (quantised / "config.json").write_text(json.dumps({**described, "quantization_config": settings}))

    left, right = open_store(quantised), open_store(plain)
    assert set(left.specs) == set(right.specs)
    for name, spec in right.specs.items():
        assert left.spec(name).shape == spec.shape
        np.testing.assert_array_equal(left.float32(name), right.float32(name))
    assert gatenorm.score(quantised).layers == gatenorm.score(plain).layers
    for source in (quantised, plain):
        gatenorm.prune(source, tmp_path / f"{source.name}-pruned", gatenorm.plan(source, drop=(1,)))
    pruned = open_store(tmp_path / "quantised-pruned")
    assert pruned.config["quantization_config"] == settings
    assert "model.layers.1.mlp.experts.down_proj_blocks" in pruned.stored
    models = (gatenorm.load(tmp_path / f"{name}-pruned", dtype=torch.bfloat16) for name in ("quantised", "plain"))
    torch.testing.assert_close(*map(logits, models), rtol=0, atol=0)
