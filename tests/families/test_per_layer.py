"""Lists with one entry a layer: a config for fewer attentions has, at each of them, the kind it had before."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings, strategies as st

from gatenorm.errors import FamilyError
from gatenorm.families import keep_entries
from gatenorm.families.family import family
from tests.errors import refused

TinyModels = Callable[..., Path]
LAYERS = 6
RUNS = [[["global"], 1], [["local", "local", "global"], 1], [["local"], 2]]
SLIDING = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}
LISTED = ["full_attention", "sliding_attention", "sliding_attention"] * 2

CONFIGS: dict[str, dict[str, Any]] = {
    "gemma2, implied": {"model_type": "gemma2"},
    "gemma2, null": {"model_type": "gemma2", "layer_types": None},
    "gemma2, listed": {"model_type": "gemma2", "layer_types": LISTED},
    "qwen2, implied": {"model_type": "qwen2", **SLIDING},
    "qwen2, listed": {"model_type": "qwen2", **SLIDING, "layer_types": LISTED},
    "qwen2, window left out": {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 2},
    "qwen2, switched off": {"model_type": "qwen2", **SLIDING, "use_sliding_window": False},
    "qwen2, no window": {"model_type": "qwen2", **SLIDING, "sliding_window": None},
    "qwen2, boundary left out": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8},
    "qwen3, implied": {"model_type": "qwen3", **SLIDING},
    "gpt_neo": {"model_type": "gpt_neo", "attention_types": [[["global", "local"], 3]]},
    "gpt_neo, runs": {"model_type": "gpt_neo", "attention_types": RUNS},
    "gpt_neo, expanded": {
        "model_type": "gpt_neo",
        "attention_types": [[["global", "local"], 3]],
        "attention_layers": ["global", "local"] * 3,
    },
}  # fmt: skip


def count_key(model_type: str) -> str:
    return "num_layers" if model_type == "gpt_neo" else "num_hidden_layers"


def kinds(config: dict[str, Any]) -> list[str]:
    """What transformers takes each layer to be."""
    loaded = transformers.AutoConfig.for_model(**copy.deepcopy(config))
    return list(loaded.attention_layers if config["model_type"] == "gpt_neo" else loaded.layer_types)


def dense(config: dict[str, Any], keep: Sequence[int], layers: int) -> dict[str, Any]:
    data = family(config["model_type"], config)
    changed = keep_entries(config, data, layers, keep)
    return {**config, **changed, count_key(config["model_type"]): len(keep)}


@pytest.mark.parametrize("spelling", CONFIGS)
@given(keep=st.sets(st.integers(0, LAYERS - 1), min_size=1).map(sorted))
@settings(max_examples=12, deadline=None)
def test_kept_layers_stay_what_they_were(spelling: str, keep: list[int]) -> None:
    config = {**CONFIGS[spelling], count_key(CONFIGS[spelling]["model_type"]): LAYERS}
    natural = kinds(config)
    assert kinds(dense(config, keep, LAYERS)) == [natural[i] for i in keep]


@pytest.mark.parametrize("spelling", CONFIGS)
def test_a_second_pruning_starts_from_the_first(spelling: str) -> None:
    config = {**CONFIGS[spelling], count_key(CONFIGS[spelling]["model_type"]): LAYERS}
    natural = kinds(config)
    once = dense(config, [0, 1, 3, 5], LAYERS)
    twice = dense(once, [1, 2], 4)
    assert kinds(twice) == [natural[1], natural[3]]


@pytest.mark.parametrize("name", ["gemma2", "qwen2-sliding", "gpt_neo", "llama-gqa", "mistral"])
def test_saved_configs(name: str, tiny_models: TinyModels, tmp_path: Path) -> None:
    """From a config.json as transformers 5 writes it, and as releases before it did, without ``layer_types``."""
    saved = json.loads((tiny_models(name) / "config.json").read_text())
    older = {k: v for k, v in saved.items() if k != "layer_types"}
    for config in (saved, older):
        small = dense(config, [1, 3], 4)
        (tmp_path / "config.json").write_text(json.dumps(small))
        loaded = transformers.AutoConfig.from_pretrained(tmp_path)
        assert loaded.num_hidden_layers == 2
        if name in ("gemma2", "qwen2-sliding", "gpt_neo"):
            natural = kinds(config)
            assert kinds(small) == [natural[1], natural[3]] != natural[:2]


def test_a_list_of_a_family_that_needs_none_is_shortened_too() -> None:
    config = {"model_type": "mistral", "layer_types": LISTED}
    assert keep_entries(config, family("mistral", config), LAYERS, [0, 1]) == {"layer_types": LISTED[:2]}
    assert keep_entries({}, family("llama", {}), LAYERS, [0]) == {}


@pytest.mark.parametrize(
    ("model_type", "keys"),
    [
        ("gemma2", {"layer_types": LISTED[:-1]}),
        ("gemma2", {"layer_types": "sliding_attention"}),
        ("gemma2", {"layer_types": 7}),
        ("gpt_neo", {"attention_types": [[["global", "local"], 4]]}),
        ("gpt_neo", {"attention_types": [["global", 6]]}),
        ("gpt_neo", {"attention_types": [[["global"], 10**12]]}),
        ("gpt_neo", {"attention_types": {"global": 6}}),
        ("qwen2", {**SLIDING, "max_window_layers": "two"}),
    ],
)
def test_a_list_that_does_not_fit_is_refused(model_type: str, keys: dict[str, Any]) -> None:
    with refused("config-wrong", kind=FamilyError) as error:
        keep_entries(keys, family(model_type, keys), LAYERS, [0, 1])
    assert f" {[*keys][-1]} is " in error.value.problem
    assert len(str(error.value)) < 200
