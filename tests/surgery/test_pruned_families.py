"""The whole way for every family: prune on disk, load, and compute what the source computes with silent attention."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import gatenorm
from gatenorm.errors import GatenormError, PlanError
from gatenorm.records import PRUNED_PREFIX, PrunedRecord
from gatenorm.surgery import modeling_gatenorm as modeling
from tests.errors import refused
from tests.tiny_models import CASES, VOCABULARY, attention_of, build

TinyModels = Callable[..., Path]


def silent(name: str, layout: object, drop: tuple[int, ...]) -> torch.nn.Module:
    """A copy of the stock model whose attention modules in ``drop`` put out zeros."""
    model = copy.deepcopy(build(name))
    blocks = model.get_submodule(layout.block.path)
    for index in drop:
        attention = blocks[index].get_submodule(layout.block.attention[0])
        attention.register_forward_hook(lambda _, __, output: (torch.zeros_like(output[0]), *output[1:]))
    return model


def left_padded() -> dict[str, torch.Tensor]:
    ids = torch.randint(4, VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids[1, :7], mask[1, :7] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def answers(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a long text (longer than any sliding window here), and greedy continuations of a padded batch."""
    text = torch.randint(4, VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model(input_ids=text).logits
        continued = model.generate(
            **left_padded(), max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None
        )
    return logits, continued


@pytest.mark.parametrize("name", CASES)
def test_pruned_on_disk_and_loaded_equals_silent_attention(name: str, tiny_models: TinyModels, tmp_path: Path):
    layout = gatenorm.open_model(tiny_models(name))
    for drop in ((0, 2), tuple(layer for layer in layout.removable("attention") if layer != 2)):
        out = gatenorm.prune(layout, tmp_path / str(len(drop)), gatenorm.plan(layout, drop=drop)).path
        model = gatenorm.load(out, dtype=torch.float32, attn_implementation=attention_of(CASES[name][0]))
        expected_logits, expected_text = answers(silent(name, layout, drop))
        logits, text = answers(model)
        torch.testing.assert_close(logits, expected_logits, atol=1e-5, rtol=1e-5)
        assert torch.equal(text, expected_text)
        blocks = model.get_submodule(layout.block.path)
        assert len(blocks) == layout.layers
        for index in drop:
            gone = layout.block.attention
            assert not any(path.startswith(tuple(f"{one}." for one in gone)) for path in blocks[index].state_dict())
        with torch.no_grad():
            cache = model(input_ids=torch.tensor([[5, 6, 7]]), use_cache=True).past_key_values
        in_place = layout.block.in_place
        assert len(cache.layers) == layout.layers - (0 if in_place else len(drop))
        for index in drop if in_place else ():  # one element a token, by which lengths are told
            keys = getattr(cache.layers[index], "keys", None)
            assert keys is None or keys.shape == (1, 1, 3, 1)
        live = gatenorm.prune_module(copy.deepcopy(build(name)), drop)
        assert torch.equal(answers(live)[0], logits)


def test_a_pruned_directory_pruned_again_computes_the_same_as_pruned_at_once(tiny_models: TinyModels, tmp_path: Path):
    for name in ("gemma2", "gpt_neo"):
        source = tiny_models(name)
        once = gatenorm.prune(source, tmp_path / name / "1", gatenorm.plan(source, drop=[0])).path
        twice = gatenorm.prune(once, tmp_path / name / "2", gatenorm.plan(once, drop=[3])).path
        expected = answers(silent(name, gatenorm.open_model(source), (0, 3)))
        found = answers(gatenorm.load(twice, dtype=torch.float32, attn_implementation="eager"))
        torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
        assert torch.equal(found[1], expected[1])


def test_live_surgery_refuses_what_surgery_on_disk_refuses():
    model = copy.deepcopy(build("gpt2"))
    for drop, code in [([], "layers-missing"), *(([layer], "layer-unknown") for layer in (1.7, True, 4))]:
        with refused(code, "drop", PlanError):
            gatenorm.prune_module(model, drop)
    model.config.add_cross_attention = True
    with refused("model-not-prunable", "model", PlanError) as caught:
        gatenorm.prune_module(model, [1])
    assert "add_cross_attention" in caught.value.problem


def test_weights_that_the_config_has_no_place_for_are_not_dropped_silently(tiny_models: TinyModels, tmp_path: Path):
    source = shutil.copytree(tiny_models("llama-biased"), tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "attention_bias": False}))
    with refused("tensors-foreign", "model", GatenormError):
        gatenorm.load(source)


def test_no_code_out_of_a_directory_is_run_or_offered(
    tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whoever is asked says yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    source = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}}
    (source / "config.json").write_text(json.dumps(config))
    (source / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with refused("transformers-cannot-load", "model", GatenormError):
        gatenorm.load(source)
    assert not (tmp_path / "ran").exists()


def test_what_the_modelling_file_repeats_agrees_with_the_package():
    """It stands alone in every pruned directory, so it cannot import these."""
    assert PrunedRecord.__struct_config__.tag == modeling.SCHEMA
    assert f"{modeling.PREFIX.lower()}_" == PRUNED_PREFIX


def test_a_checkpoint_that_lacks_tensors_is_not_run(tiny_models: TinyModels):
    """transformers would fill them with random numbers and go on."""
    partial = tiny_models("gpt2", base_only=True)
    assert gatenorm.load(partial) is not None  # the head is tied, so nothing is missing
    partial = tiny_models("llama-gqa", base_only=True)
    with refused("tensors-missing", "model", gatenorm.GatenormError):
        gatenorm.load(partial)
