"""Strangers' checkpoints that transformers stumbles over, each in its own way: always one line of ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatenorm import api
from gatenorm.errors import CheckpointError
from gatenorm.models.loading import load
from tests.errors import refused

TinyModels = Callable[..., Path]


def change(directory: Path, changes: dict[str, Any]) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"pad_token_id": 999999},  # AssertionError
        {"_attn_implementation": "flash_attention_2"},  # ImportError
        {"hidden_act": "no_such_function"},  # KeyError
        {"num_attention_heads": 0},  # ZeroDivisionError
    ],
)
def test_a_config_that_transformers_cannot_use(changes: dict[str, Any], tiny_models: TinyModels, tmp_path: Path):
    model = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    change(model, changes)
    with refused("transformers-cannot-load", "model", CheckpointError) as raised:
        load(model)
    assert "\n" not in str(raised.value)


def test_an_entry_of_ours_that_leads_nowhere(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-gqa")
    out = api.prune(source, tmp_path / "out", api.plan(source, drop=[1])).path
    entry = json.loads((out / "config.json").read_text())["gatenorm"]
    change(out, {"gatenorm": {**entry, "block": {**entry["block"], "path": "model.nothing"}}})
    with refused("transformers-cannot-load", "model", CheckpointError):  # AttributeError
        load(out)
