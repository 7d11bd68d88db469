"""Assumed families are proved on tiny models, and no directory appears that transformers cannot load whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file, save_file

import gatenorm
from gatenorm.errors import FamilyError, PlanError
from gatenorm.families import detect_layout
from gatenorm.surgery import proof
from tests.errors import refused
from tests.tiny_models import build

TinyModels = Callable[..., Path]
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


def written(model_type: str, out: Path, **keys: Any) -> Path:
    config = transformers.AutoConfig.for_model(model_type, **{**SIZES, **keys})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(out)
    return out


# Families of their own here, which is what shows that they differ: the proof does not ask whether they are known.
@pytest.mark.parametrize(
    "model_type", ["gemma", "granite", "helium", "ernie4_5", "smollm3", "qwen3", "olmo2", "cohere"]
)
def test_families_that_are_not_llamas_are_told_apart(model_type: str) -> None:
    config = transformers.AutoConfig.for_model(model_type, **SIZES).to_dict()
    if model_type == "granite":
        config["residual_multiplier"] = 0.5
    assert not proof.difference(config, 8, "llama") < 1e-2
    with refused("family-differs", "family", FamilyError) as error:
        proof.assumption(config, 8, "llama")
    assert (error.value.code, error.value.field) == ("family-differs", "family")


@pytest.mark.parametrize("model_type", ["llama", "mistral", "seed_oss"])
def test_families_that_compute_like_llama_are_found_equal(model_type: str) -> None:
    config = transformers.AutoConfig.for_model(model_type, **SIZES).to_dict()
    config |= {"sliding_window": None, "attention_bias": False, "layer_types": ["full_attention"] * 8}
    assert proof.difference(config, 8, "llama") < 1e-5
    assert "equal on a tiny random model" in proof.assumption(config, 8, "llama")


def test_a_window_that_is_a_default_of_the_assumed_class_is_seen() -> None:
    config = transformers.LlamaConfig(**SIZES).to_dict()
    assert proof.difference(config, 8, "mistral") > 1e-2


def test_the_hint_is_offered_only_where_the_proof_passes(tmp_path: Path) -> None:
    same = written("diffllama", tmp_path / "differs")
    with refused("family-unknown", kind=FamilyError) as error:
        gatenorm.open_model(same)
    assert "llama" not in error.value.hint
    config = json.loads((same / "config.json").read_text())
    (same / "config.json").write_text(json.dumps({**config, "model_type": "open-llama-of-somebody"}))
    with refused("family-unknown", kind=FamilyError) as error:
        gatenorm.open_model(same)
    assert "llama" not in error.value.hint


def test_a_hint_that_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written("seed_oss", tmp_path / "model", attention_bias=False)
    known = dict(gatenorm.families.families())
    known.pop("seed_oss")
    monkeypatch.setattr("gatenorm.families.detection.families", lambda: known)
    with refused("family-unknown", kind=FamilyError) as caught:
        gatenorm.open_model(source)
    assert "'seed_oss'" in caught.value.problem
    assert "llama" in caught.value.hint
    layout = gatenorm.open_model(source, "llama")
    assert "equal on a tiny random model" in layout.assumption
    out = gatenorm.prune(layout, tmp_path / "out", gatenorm.plan(layout, drop=[1])).path
    assert layout.assumption in (out / "README.md").read_text()
    assert detect_layout(gatenorm.open_model(out).checkpoint).assumption == layout.assumption
    assert gatenorm.score(layout).notes[0] == layout.assumption
    gatenorm.load(out)


def test_an_assumption_that_cannot_be_proved_is_said(tiny_models: TinyModels, tmp_path: Path) -> None:
    source = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "model_type": "nobodys"}))
    layout = gatenorm.open_model(source, "llama")
    assert layout.assumption == (
        "family llama is assumed for model_type 'nobodys', unproved: transformers has no class of that type"
    )


def test_a_directory_that_would_not_load_does_not_appear(tiny_models: TinyModels, tmp_path: Path) -> None:
    source = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    tensors = load_file(source / "model.safetensors")
    for change, said in (
        ({"model.layers.3.mlp.up_proj.weight": None}, "model.layers.3.mlp.up_proj.weight"),
        ({"model.layers.2.other.weight": tensors["model.norm.weight"].clone()}, "model.layers.2.other.weight"),
        # Which transformers itself says, in its own words.
        ({"model.layers.2.mlp.up_proj.weight": tensors["model.norm.weight"][None].clone()}, "mismatch"),
    ):
        changed = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
        save_file(changed, source / "model.safetensors")
        with refused("not-loadable", "model", PlanError) as error:
            gatenorm.prune(source, tmp_path / "out", gatenorm.plan(source, drop=[1]))
        assert said in error.value.problem
        assert not (tmp_path / "out").exists()


def test_a_projection_without_its_bias_does_not_appear(tiny_models: TinyModels, tmp_path: Path) -> None:
    source = shutil.copytree(tiny_models("qwen2"), tmp_path / "model")
    tensors = load_file(source / "model.safetensors")
    lost = "model.layers.0.self_attn.q_proj.bias"
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, source / "model.safetensors")
    with refused("not-loadable", "model", PlanError) as error:
        gatenorm.prune(source, tmp_path / "out", gatenorm.plan(source, drop=[1]))
    assert lost in error.value.problem


def test_what_is_proved_reads_no_weight(tiny_models: TinyModels, tmp_path: Path) -> None:
    out = gatenorm.prune(tiny_models("mixtral"), tmp_path / "out", gatenorm.plan(tiny_models("mixtral"), drop=[1])).path
    weights = out / "model.safetensors"
    whole = weights.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    weights.write_bytes(whole[:length] + b"\xff" * (len(whole) - length))
    proof.check_loads(out, {}, base_only=False)
    assert build("mixtral") is not None
