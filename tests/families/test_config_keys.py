"""Keys of a config that nobody reads are told from those that somebody does.

With GATENORM_WRITE_TABLES=1 the keys of transformers' classes are added to those that are known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from gatenorm.families import families, family
from gatenorm.families.config_keys import structural_key, unread_keys
from tests.tiny_models import CASES

FILE = Path(str(resources.files("gatenorm.families").joinpath("config_keys.json")))
# Keys as published models have them beside those of transformers' classes, older releases' among them.
PUBLISHED: tuple[dict[str, Any], ...] = (
    {"model_type": "llama", "pretraining_tp": 1, "rope_scaling": None, "rope_theta": 5e5, "torch_dtype": "bfloat16"},
    {"model_type": "llama", "is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"dtype": 1}},
    {"model_type": "llama", "_model_name_or_path": "x", "unk_token_id": 0, "max_sequence_length": 2048},
    {"model_type": "llama", "unsloth_fixed": True, "unsloth_version": "2024.9", "quantization": {"bits": 4}},
    {"model_type": "qwen2", "use_sliding_window": False, "max_window_layers": 28, "use_mrope": False},
    {"model_type": "mistral", "sliding_window": 4096, "use_flash_attn": True, "seq_length": 8192},
    {"model_type": "gemma", "hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu", "rope_theta": 10000.0},
    {"model_type": "gemma2", "cache_implementation": "hybrid", "query_pre_attn_scalar": 256},
    {"model_type": "phi3", "full_attn_mod": 1, "interpolate_factor": 1, "embd_pdrop": 0.1, "lm_head_bias": False},
    {"model_type": "gpt2", "n_ctx": 1024, "task_specific_params": {"a": 1}, "summary_type": "cls_index"},
    {"model_type": "gptj", "rotary": True, "rotary_dim": 64, "gradient_checkpointing": False, "n_inner": None},
    {"model_type": "opt", "activation_dropout": 0.1, "init_std": 0.02, "prefix": "</s>", "_remove_final_layer_norm": 0},
    {"model_type": "deepseek_v3", "scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1},
    {"model_type": "deepseek_v3", "ep_size": 1, "seq_aux": True, "aux_loss_alpha": 0.001, "quantization_config": {}},
    {"model_type": "qwen3_moe", "max_window_layers": 48, "sliding_window": None, "use_sliding_window": False},
    {"model_type": "gpt_oss", "initial_context_length": 4096, "experts_per_token": 4, "swiglu_limit": 7.0},
    {"model_type": "nemotron_h", "time_step_rank": 256, "time_step_floor": 0.0001, "use_mamba_kernels": True},
    {"model_type": "cohere2", "layer_switch": 4, "use_parallel_block": True, "sliding_window_pattern": 4},
    {"model_type": "gemma3", "mm_tokens_per_image": 256, "text_config": {"model_type": "gemma3_text"}},
    {"model_type": "qwen2_vl", "hidden_size": 1536, "rope_scaling": {"type": "mrope"}, "vision_config": {"depth": 32}},
    {"model_type": "llava", "ignore_index": -100, "text_config": {"model_type": "mistral", "sliding_window": 9}},
)


def unread(config: dict[str, Any], name: str = "") -> tuple[str, ...]:
    name = name or config["model_type"]
    return unread_keys(config, family(name, config), name)


def keys_of(model_type: str) -> set[str]:
    """What transformers' class knows."""
    stock = CONFIG_MAPPING[model_type]
    keys = {*stock().to_dict(), *stock.attribute_map, *stock.sub_configs}
    return {key for key in keys if not key.startswith("_")}


def types() -> set[str]:
    """Every family, and the language model inside of it."""
    towers = [data.tower for data in families().values() if data.tower]
    return {*families()}.union(*({tower.family, tower.named or tower.family} for tower in towers))


def test_the_keys_of_every_class_are_known():
    table = json.loads(FILE.read_text())
    found, everywhere = table["families"], {*table["everywhere"]}
    wanted = {name: keys_of(name) - everywhere if name in CONFIG_MAPPING else set() for name in types()}
    if os.environ.get("GATENORM_WRITE_TABLES"):
        table["families"] = {name: sorted(wanted[name].union(found.get(name, ()))) for name in sorted(wanted)}
        FILE.write_text(_text(table))
    assert {name: sorted(keys - {*found[name]}) for name, keys in wanted.items() if not keys <= {*found[name]}} == {}
    assert found.keys() == wanted.keys()


def _text(table: dict[str, Any]) -> str:
    """A line for each type."""
    parts = [f' "everywhere": {json.dumps(table["everywhere"])}']
    for key in ("also", "families"):
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in table[key].items())
        parts.append(f' "{key}": {{\n{rows}\n }}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def test_the_table_is_written_as_it_is():
    assert _text(json.loads(FILE.read_text())) == FILE.read_text()


# Keys that a case gives to a class that has no use for them.
UNUSED = {"olmoe": ("moe_intermediate_size",), "solar_open": ("first_k_dense_replace",)}


@pytest.mark.parametrize("name", sorted(CASES))
def test_no_key_of_a_tiny_model_is_called_unread(name: str, tiny_models: Callable[..., Path]):
    assert unread(json.loads((tiny_models(name) / "config.json").read_text())) == UNUSED.get(name, ())


@pytest.mark.parametrize("config", PUBLISHED, ids=lambda config: config["model_type"])
def test_no_key_of_a_published_model_is_called_unread(config: dict[str, Any]):
    assert unread(config) == ()
    assert structural_key(config, family(config["model_type"], config), config["model_type"]) is None


@pytest.mark.parametrize("name", sorted(families()))
def test_what_nobody_reads_is_named(name: str):
    config: dict[str, Any] = {"model_type": name, "skip_every": 2, "early_exit": None, "x_mod": [], "sparse_mode": "a"}
    assert unread(config) == ("skip_every", "sparse_mode")
    tower = families()[name].tower
    if tower:
        assert unread({"model_type": name, tower.config: {"skip_every": 2}}) == ("skip_every",)


def test_a_value_that_a_class_does_not_have_is_named():
    assert unread({"model_type": "deepseek_v3", "scoring_func": "softmax"}) == ("scoring_func",)
    assert unread({"model_type": "phi3", "full_attn_mod": 2}) == ("full_attn_mod",)


@pytest.mark.parametrize(
    "entry",
    [
        *({key: [1]} for key in ("drop_attn_list", "drop_mlp_list", "skipped_layers", "layers_to_skip", "kept_layers")),
        *({key: [1]} for key in ("prunedBlocks", "attn_heads_removed", "skip_attention_layers", "layer_head_num")),
        {"block_configs": [{"attention": {"no_op": True}}]},
        {"drop_layers": "1, 2"},
        {"removed_heads": {"1": [0]}},
    ],
    ids=str,
)
@pytest.mark.parametrize("inside", [False, True])
def test_lists_of_parts_that_do_not_run_are_structure(entry: dict[str, Any], inside: bool):
    name = "llava" if inside else "llama"
    config = {"model_type": name, **({"text_config": {"model_type": "llama", **entry}} if inside else entry)}
    assert structural_key(config, family(name, config), name) == next(iter(entry.items()))


def test_numbers_and_methods_of_pruning_are_no_structure():
    config = {"model_type": "llama", "prune_method": "wanda", "num_pruned_layers": 3, "skip_modules": ["lm_head"]}
    assert structural_key(config, family("llama", config), "llama") is None
    assert unread(config) == ("prune_method", "num_pruned_layers", "skip_modules")
