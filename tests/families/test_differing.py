"""Layers whose heads differ, and layers that read the keys and values of others: Gemma 4."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gatenorm
from gatenorm.errors import FamilyError, PlanError
from gatenorm.families import family
from gatenorm.families.differing import key_sources, layer_configs
from tests.errors import refused
from tests.tiny_models import build

TinyModels = Callable[..., Path]
KINDS = ["sliding_attention", "full_attention"] * 3
HUB = {"model_type": "gemma4_text", "layer_types": KINDS, "head_dim": 256, "num_key_value_heads": 4}


def data(config: dict[str, Any]) -> Any:
    return family("gemma4_text", config)


@pytest.fixture
def shared(tiny_models: TinyModels) -> gatenorm.families.Layout:
    return gatenorm.open_model(tiny_models("gemma4_text-e"))


def test_a_layers_config_has_its_kind_and_what_is_kept_of_it():
    configs = layer_configs({**HUB, "per_layer_config": {"1": {"head_dim": 32}}}, data(HUB), 6)
    assert [one["layer_type"] for one in configs] == KINDS
    assert [one["head_dim"] for one in configs] == [256, 32, 256, 256, 256, 256]
    with refused("config-wrong", kind=FamilyError):
        layer_configs({**HUB, "per_layer_config": {"1": 32}}, data(HUB), 6)


def test_heads_are_the_same_in_the_hubs_words_and_in_those_of_transformers(tiny_models: TinyModels, tmp_path: Path):
    source = shutil.copytree(tiny_models("gemma4_text"), tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    del config["per_layer_config"]
    written = {**config, "global_head_dim": 32, "num_global_key_value_heads": 1}
    (source / "config.json").write_text(json.dumps(written))
    hub, own = gatenorm.open_model(source), gatenorm.open_model(tiny_models("gemma4_text"))
    for layout in (hub, own):
        assert [(layout.at(i).kv_heads, layout.at(i).head_dim) for i in range(6)] == [(2, 16), (1, 32)] * 3
        assert layout.rotary_of(1).dims == 32
    assert hub.other_rotary == own.other_rotary


def test_the_last_layers_read_those_of_the_last_one_of_their_kind():
    assert key_sources(HUB, data(HUB), 6) == {}
    config = {**HUB, "num_kv_shared_layers": 3}
    assert key_sources(config, data(config), 6) == {3: 1, 4: 2, 5: 1}
    for wrong in (5, 6, -1, "2"):  # of five layers none is left that makes keys for full attention
        with refused("config-wrong", kind=FamilyError):
            key_sources({**HUB, "num_kv_shared_layers": wrong}, data(HUB), 6)


def test_what_others_read_is_neither_scored_nor_removed(shared: gatenorm.families.Layout):
    assert (shared.key_sources, shared.read_by_others) == ({6: 4, 7: 5}, (4, 5))
    scores = gatenorm.score(shared)
    assert set(scores.ranking) == {0, 1, 2, 3, 6, 7}
    assert any("layers 4, 5 make the keys and values that others read" in note for note in scores.notes)
    with refused("attention-shared", "drop", PlanError) as error:
        gatenorm.plan(shared, drop=[4])
    assert (error.value.code, error.value.field) == ("attention-shared", "drop")
    with refused("attention-shared", "drop", PlanError):
        gatenorm.prune_module(build("gemma4_text-e"), [5])


def test_what_nobody_reads_any_more_can_go(shared: gatenorm.families.Layout, tmp_path: Path):
    once = gatenorm.prune(shared, tmp_path / "once", gatenorm.plan(shared, drop=[6])).path
    twice = gatenorm.prune(once, tmp_path / "twice", gatenorm.plan(once, drop=[4])).path
    at_once = gatenorm.prune(shared, tmp_path / "at-once", gatenorm.plan(shared, drop=[4, 6])).path
    ids = torch.arange(5, 30)[None]
    with torch.no_grad():
        assert torch.equal(*(gatenorm.load(one, dtype=torch.float32)(ids).logits for one in (twice, at_once)))
