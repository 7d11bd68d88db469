"""Attention removed from a model in memory."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gatenorm.errors import PlanError
from gatenorm.records import Edits, Plan, from_json
from gatenorm.surgery.live import edit_model
from tests.errors import refused
from tests.surgery.pruned_models import (
    LAYERS,
    SHAPES,
    build,
    pruned_tensors,
)
from tests.surgery.silent_attention import (
    assert_same_text,
    decode,
    every_shape,
    files_of,
    full,
    load,
    padded_batch,
    tokens,
)


@every_shape
def test_live_surgery_equals_loading(name, directories):
    drop, model, ids = (0, 3), build(name), padded_batch()
    config = model.config
    config_before = config.to_dict()
    loaded = load(directories(name, drop))
    assert edit_model(model, Edits.of("attention", [3, 0]), SHAPES[name].family()) is model
    assert type(model) is type(loaded)
    assert str(model) == str(loaded)
    assert set(model._no_split_modules) == set(loaded._no_split_modules)
    ignored = {"_name_or_path", "architectures", "dtype", "transformers_version"}
    found, expected = ({k: v for k, v in m.config.to_dict().items() if k not in ignored} for m in (model, loaded))
    plans = [described["gatenorm"].pop("plan") for described in (found, expected)]
    assert plans[0]["edits"] == plans[1]["edits"]
    assert found == expected
    assert config.to_dict() == config_before
    configs = {id(m.config): m.config for m in model.modules() if isinstance(getattr(m, "config", None), type(config))}
    assert len(configs) == 1
    ids_live, logits_live, past = decode(model, ids)
    ids_loaded, logits_loaded, _ = decode(loaded, ids)
    assert torch.equal(ids_live, ids_loaded)
    assert torch.equal(logits_live, logits_loaded)
    assert len(past.layers) == LAYERS - 2
    with torch.no_grad():
        assert len(model(tokens(1, 4), output_hidden_states=True).hidden_states) == LAYERS + 1


@full
def test_live_surgery_composes_and_saves(name, directories, tmp_path):
    once = edit_model(build(name), Edits.of("attention", (0, 3, 4)), SHAPES[name].family())
    twice = edit_model(build(name), Edits.of("attention", (3,)), SHAPES[name].family())
    with torch.no_grad():
        twice(tokens(1, 4), output_hidden_states=True)  # leaves hooks behind
    edit_model(twice, Edits.of("attention", (4, 0)), SHAPES[name].family())
    found, expected = twice.config.to_dict(), once.config.to_dict()
    plan = from_json(Plan, found["gatenorm"].pop("plan"), "a plan")
    assert (plan.edits.attention, plan.added.attention, plan.previous.edits.attention) == ((0, 3, 4), (0, 4), (3,))
    assert from_json(Plan, expected["gatenorm"].pop("plan"), "a plan").edits.attention == plan.edits.attention
    assert found == expected
    assert str(twice) == str(once)
    twice.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors", "modeling_gatenorm.py", "gatenorm.json"} <= files_of(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(pruned_tensors(build(name), name, (0, 3, 4)))
    loaded = load(tmp_path)
    for inputs in (padded_batch(), {"input_ids": tokens(1, 6)}):
        for options in ({}, {"cache_implementation": "static"}):
            results = [decode(model, inputs, **options)[:2] for model in (once, twice, loaded)]
            assert all(torch.equal(ids, results[0][0]) for ids, _ in results)
            torch.testing.assert_close(results[1][1], results[0][1])
            torch.testing.assert_close(results[2][1], results[0][1])


def test_what_a_live_model_says_of_its_past_does_not_grow_with_every_pruning():
    model = build("llama")
    for layer in (0, 3, 4):
        edit_model(model, Edits.of("attention", [layer]), SHAPES["llama"].family())
    plan = from_json(Plan, model.config.gatenorm["plan"], "a plan")
    assert plan.previous.edits.attention == (0, 3)
    assert plan.previous.previous is None


def test_live_surgery_on_a_loaded_model(directories):
    model = edit_model(load(directories("llama", (0, 3))), Edits.of("attention", [5]), SHAPES["llama"].family())
    assert_same_text(model, build("llama"), "llama", (0, 3, 5), padded_batch())
    again = AutoModelForCausalLM.from_config(model.config)
    assert type(again) is type(model)


@pytest.mark.parametrize(
    ("drop", "block", "code", "field", "said"),
    [
        ([6], {}, "layer-unknown", "drop", "6"),
        ([-1], {}, "layer-unknown", "drop", "-1"),
        (range(6), {}, "none-would-stay", "drop", "6"),
        ([1], {"attention": ["attn"]}, "block-shape-wrong", "", "'attn'"),
        ([1], {"path": "model.blocks"}, "block-shape-wrong", "", "'blocks'"),
        ([1], {"branch": ["post_attention_layernorm", "moe"]}, "block-shape-wrong", "", "'moe'"),
    ],
)
def test_live_surgery_refuses_and_leaves_the_model_alone(drop, block, code, field, said):
    model, ids = build("llama"), tokens(1, 5)
    before = str(model), model.config.to_dict(), model(ids).logits
    with refused(code, field, PlanError) as caught:
        edit_model(model, Edits.of("attention", drop), SHAPES["llama"].family(block))
    assert said in f"{caught.value.given} {caught.value.problem}"
    assert (str(model), model.config.to_dict()) == before[:2]
    assert torch.equal(model(ids).logits, before[2])


def test_live_surgery_refuses_what_it_does_not_know():
    with refused("model-class-wrong", kind=PlanError):
        edit_model(build("llama").model, Edits.of("attention", [1]), SHAPES["llama"].family())
    with refused("model-not-prunable", "model", PlanError) as caught:
        edit_model(
            build("gpt2", scale_attn_by_inverse_layer_idx=True), Edits.of("attention", [1]), SHAPES["gpt2"].family()
        )
    assert "scale_attn_by_inverse_layer_idx" in caught.value.problem
