"""Larger models whose language model is pruned: the rest is carried byte for byte, and the whole runs on an image."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import gatenorm
from gatenorm.checkpoint import open_store
from gatenorm.errors import FamilyError
from tests.surgery.test_pruned_families import silent
from tests.tiny_models import CASES

TinyModels = Callable[..., Path]
TOWERS = [name for name, (_, arguments) in CASES.items() if "text_config" in arguments]
IMAGE, PATCH = 3, 14
# How many tokens an image takes, and the first dimensions of its pixels.
IMAGES: dict[str, tuple[int, tuple[int, ...]]] = {
    "gemma3": (4, (1,)),
    "mistral3": (4, (1,)),
    "llava": (4, (1,)),
    "llava_next": (10, (1, 2)),
    "internvl": (1, (1,)),
    "smolvlm": (1, (1, 1)),
    "idefics3": (1, (1, 1)),
    "llama4": (1, (1,)),
    "gemma4": (1, (1, 4)),
    "kimi_k25": (1, (4,)),
    **dict.fromkeys((name for name in TOWERS if name.startswith("qwen")), (1, ())),
}


def asked(name: str) -> dict[str, Any]:
    """A text with an image in it, whose pixels are random: 28 wide and high, 56 where patches are merged by fours."""
    draw = torch.Generator().manual_seed(3)
    side = PATCH * (4 if name.startswith("mistral3") else 2)
    tokens, pictures = IMAGES[name.partition("-")[0]]
    ids = torch.tensor([[5, 6, *[IMAGE] * tokens, 7, 8, 9, 10, 11]])
    if name.startswith("qwen"):
        pixels = torch.randn(4, 3 * 2 * PATCH**2, generator=draw)
        return {"input_ids": ids, "pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 2, 2]])} | {
            "mm_token_type_ids": (ids == IMAGE).long()
        }
    if name == "gemma4":
        places = torch.tensor([[[0, 0], [1, 0], [0, 1], [1, 1]]])
        pixels = torch.rand(1, 4, 3 * PATCH**2, generator=draw)
        return {"input_ids": ids, "pixel_values": pixels, "image_position_ids": places}
    if name == "kimi_k25":
        pixels = torch.randn(4, 3, PATCH, PATCH, generator=draw)
        return {"input_ids": ids, "pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 2, 2]])}
    given = {"input_ids": ids, "pixel_values": torch.randn(*pictures, 3, side, side, generator=draw)}
    sized = name.startswith(("mistral3", "llava_next"))
    return given | ({"image_sizes": torch.tensor([[side, side]])} if sized else {})


@pytest.mark.parametrize("name", TOWERS)
def test_the_whole_model_reads_an_image_without_the_attention(name: str, tiny_models: TinyModels, tmp_path: Path):
    layout = gatenorm.open_model(tiny_models(name))
    drop = (0, 2)
    out = gatenorm.prune(layout, tmp_path / "pruned", gatenorm.plan(layout, drop=drop)).path
    pruned = gatenorm.load(out, dtype=torch.float32, attn_implementation="eager")
    stock, given = silent(name, layout, drop), asked(name)
    if name == "gemma4":  # what its embedder makes of one row depends on where weights lie in memory, by a rounding
        stock, pruned = stock.double(), pruned.double()
    with torch.no_grad():
        expected, found = stock(**given).logits, pruned(**given).logits
        unseen = stock(**{**given, "pixel_values": given["pixel_values"] + 1}).logits
        texts = [
            model.generate(**given, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None)
            for model in (stock, pruned)
        ]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(*texts)
    assert not torch.allclose(unseen, expected, atol=1e-3)  # the image matters


@pytest.mark.parametrize("name", TOWERS)
def test_all_that_is_no_attention_is_carried_byte_for_byte(name: str, tiny_models: TinyModels, tmp_path: Path):
    layout = gatenorm.open_model(tiny_models(name))
    out = gatenorm.prune(layout, tmp_path / "pruned", gatenorm.plan(layout, drop=[1])).path
    before, after = layout.checkpoint, open_store(out)
    gone = {tensor for tensor in before.specs if tensor.startswith(layout.removed_with(1))}
    assert gone
    assert after.specs.keys() == before.specs.keys() - gone
    assert any("visual" in tensor or "vision" in tensor for tensor in after.specs)
    for tensor in after.specs:
        assert before.raw(tensor).tobytes() == after.raw(tensor).tobytes()


@pytest.mark.parametrize("name", TOWERS)
def test_a_saved_model_is_the_whole_again(name: str, tiny_models: TinyModels, tmp_path: Path):
    layout = gatenorm.open_model(tiny_models(name))
    once = gatenorm.prune(layout, tmp_path / "once", gatenorm.plan(layout, drop=[0])).path
    twice = gatenorm.prune(once, tmp_path / "twice", gatenorm.plan(once, drop=[2])).path
    gatenorm.load(twice, dtype=torch.float32).save_pretrained(tmp_path / "saved")
    models = [gatenorm.load(place, dtype=torch.float32) for place in (twice, tmp_path / "saved")]
    with torch.no_grad():
        assert torch.equal(*(model(**asked(name)).logits for model in models))
    assert gatenorm.open_model(tmp_path / "saved").edits.attention == (0, 2)


def test_a_config_that_is_flat_as_the_hub_has_it_is_understood(tiny_models: TinyModels, tmp_path: Path):
    source = shutil.copytree(tiny_models("qwen2_5_vl"), tmp_path / "flat")
    config = json.loads((source / "config.json").read_text())
    text = config.pop("text_config")
    (source / "config.json").write_text(json.dumps({**text, **config}))
    nested, flat = gatenorm.open_model(tiny_models("qwen2_5_vl")), gatenorm.open_model(source)
    assert (flat.heads, flat.layers, flat.rotary) == (nested.heads, nested.layers, nested.rotary)
    given, found = asked("qwen2_5_vl"), []
    for layout in (nested, flat):
        out = gatenorm.prune(layout, tmp_path / f"out-{len(found)}", gatenorm.plan(layout, drop=[0, 2])).path
        with torch.no_grad():
            found.append(gatenorm.load(out, dtype=torch.float32)(**given).logits)
    assert torch.equal(*found)


def test_it_loads_where_gatenorm_is_not_installed(tiny_models: TinyModels, tmp_path: Path):
    layout = gatenorm.open_model(tiny_models("mistral3"))
    out = gatenorm.prune(layout, tmp_path / "pruned", gatenorm.plan(layout, drop=[1])).path
    code = """
import sys; sys.modules["gatenorm"] = None
import transformers
for auto in (transformers.AutoModelForImageTextToText, transformers.AutoModelForCausalLM):
    model, report = auto.from_pretrained(sys.argv[1], trust_remote_code=True, output_loading_info=True)
    print(type(model).__name__, any(report.values()))
"""
    env = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    said = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=True, env=env)
    assert said.stdout.split() == ["GatenormMistral3ForConditionalGeneration", "False"] * 2


def test_a_language_model_that_is_not_known_is_named(tiny_models: TinyModels, tmp_path: Path):
    source = shutil.copytree(tiny_models("llava"), tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    for given, code in (({"model_type": "mamba"}, "family-unknown"), ("llama", "config-wrong")):
        (source / "config.json").write_text(json.dumps({**config, "text_config": given}))
        with pytest.raises(FamilyError) as error:
            gatenorm.open_model(source)
        assert error.value.code == code


def test_a_config_that_leaves_out_what_is_its_classs_own(tiny_models: TinyModels, tmp_path: Path):
    """Gemma 3's files on the hub say nothing of heads, of the vocabulary and of the kinds of layers."""
    text = {"hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 7, "sliding_window": 16}
    text |= {"model_type": "gemma3_text", "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    source = tmp_path / "model"
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    given = {"text_config": {**text, "vocab_size": 96}, "vision_config": {**vision, "image_size": 28, "patch_size": 14}}
    config = transformers.Gemma3Config(**copy.deepcopy(given), mm_tokens_per_image=4, image_token_index=IMAGE)
    transformers.Gemma3ForConditionalGeneration(config).eval().save_pretrained(source)
    written = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**written, **given}))
    layout = gatenorm.open_model(source)
    assert (layout.heads, layout.kv_heads, layout.head_dim) == (8, 4, 256)
    out = gatenorm.prune(layout, tmp_path / "pruned", gatenorm.plan(layout, drop=[1, 4])).path
    stock, ids = gatenorm.load(source, dtype=torch.float32), torch.arange(4, 44)[None]
    for layer in (1, 4):
        attention = stock.get_submodule(layout.block.path)[layer].self_attn
        attention.register_forward_hook(lambda _, __, output: (torch.zeros_like(output[0]), *output[1:]))
    with torch.no_grad():
        assert torch.equal(gatenorm.load(out, dtype=torch.float32)(ids).logits, stock(ids).logits)
