"""Rotary frequencies from any spelling of a config are the ones that transformers computes from the same config."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import numpy as np
import pytest
import transformers

from gatenorm.errors import CriterionError, FamilyError
from gatenorm.families import Rotary, families
from gatenorm.families.family import family
from tests.errors import refused

SMALL = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 512}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2**62}
WITHOUT_ORIGINAL = {k: v for k, v in LLAMA3.items() if not k.startswith("original")}

SPELLINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, defaults": ("llama", {}),
    "llama, version 4": ("llama", {"rope_theta": 500000.0}),
    "llama, version 4, null": ("llama", {"rope_theta": 500000.0, "rope_scaling": None}),
    "llama, version 5": ("llama", {"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}}),
    "llama, whole number": ("llama", {"rope_theta": 500000}),
    "llama, linear, version 4": ("llama", {"rope_theta": 5000.0, "rope_scaling": {"type": "linear", "factor": 4.0}}),
    "llama, linear, rope_type": ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "llama, linear, version 5": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0}},
    ),
    "llama 3.1, version 4": ("llama", {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}),
    "llama 3.1, version 5": (
        "llama",
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3}},
    ),
    "llama 3.1, no original context": ("llama", {"rope_scaling": {"rope_type": "llama3", **WITHOUT_ORIGINAL}}),
    "llama, both spellings": (
        "llama",
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 7.0}},
    ),
    "llama, base in rope_scaling": (
        "llama",
        {"rope_theta": 7.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}},
    ),
    "llama does not turn in part": ("llama", {"partial_rotary_factor": 0.5}),
    "mistral": ("mistral", {"rope_theta": 1000000.0, "head_dim": 32}),
    "qwen2": ("qwen2", {"rope_theta": 1000000.0}),
    "qwen3, head_dim left out": ("qwen3", {"rope_theta": 1000000.0}),
    "gemma2, head_dim left out": ("gemma2", {}),
    "olmo2": ("olmo2", {"rope_theta": 500000}),
    "phi3": ("phi3", {"pad_token_id": 0}),
    "phi3, in part, version 4": ("phi3", {"pad_token_id": 0, "partial_rotary_factor": 0.75}),
    "phi3, in part, version 5": (
        "phi3",
        {"pad_token_id": 0, "rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 0.5}},
    ),
    "neox, defaults": ("gpt_neox", {}),
    "neox, version 4": ("gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 5000}),
    "neox, version 4, linear": (
        "gpt_neox",
        {"rotary_pct": 1.0, "rotary_emb_base": 5000, "rope_scaling": {"type": "linear", "factor": 2.0}},
    ),
    "neox, version 5": ("gpt_neox", {"rope_parameters": {"rope_theta": 5000.0, "partial_rotary_factor": 0.5}}),
    "falcon": ("falcon", {"rope_theta": 5000.0}),
}
PREFIXES = {"gpt_neox": "GPTNeoX", "qwen2": "Qwen2", "qwen3": "Qwen3", "gemma2": "Gemma2", "olmo2": "Olmo2"}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_frequencies_are_those_of_transformers(spelling: str) -> None:
    model_type, keys = SPELLINGS[spelling]
    written = {"model_type": model_type, **SMALL, **keys}
    config = transformers.AutoConfig.for_model(**copy.deepcopy(written))
    modelling = importlib.import_module(f"transformers.models.{model_type}.modeling_{model_type}")
    prefix = PREFIXES.get(model_type, model_type.capitalize())
    expected = getattr(modelling, f"{prefix}RotaryEmbedding")(config).inv_freq.numpy()

    data = family(model_type, written)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rotary = Rotary.of(written, data, head_dim)
    assert rotary.dims == 2 * len(expected)
    np.testing.assert_allclose(rotary.frequencies(), expected, rtol=1e-6)


@pytest.mark.parametrize("model_type", [name for name, data in families().items() if data.rotary])
def test_what_a_config_leaves_out_is_what_transformers_takes(model_type: str) -> None:
    stock = getattr(transformers, families()[model_type].classes.config)()
    taken = getattr(type(stock.get_text_config())(), "rope_parameters", None)
    if taken is None:
        return  # GPT-J has one base for all
    for kind in taken if isinstance(next(iter(taken.values())), dict) else [None]:
        rotary = Rotary.of({}, family(model_type, {}), 64, kind)
        expected = taken if kind is None else taken[kind]
        assert rotary.theta == expected["rope_theta"], kind
        share = expected.get("partial_rotary_factor", 1)
        whole = expected["rope_type"] == "proportional"  # the pairs of the whole head, of which a share turns
        assert rotary.dims == 64 * (1 if whole else share)
        assert np.count_nonzero(rotary.frequencies()) == 32 * share


def test_more_dimensions_than_a_head_has_do_not_turn() -> None:
    with refused("config-wrong", kind=FamilyError) as caught:
        Rotary.of({"rotary_dim": 64}, family("gptj", {}), 16)
    assert "rotary_dim is 64" in caught.value.problem


def test_context_is_the_one_before_stretching() -> None:
    data = family("llama", {})
    stretched = {"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}
    assert Rotary.of(stretched, data, 16).context == 64
    assert Rotary.of({"max_position_embeddings": 512}, data, 16).context == 512
    # Phi-3's config class writes 4096 there whatever the context is.
    small = {"max_position_embeddings": 512, "original_max_position_embeddings": 4096}
    assert Rotary.of(small, family("phi3", {}), 16).context == 512


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "misspelt"])
def test_a_rope_type_that_is_not_known_is_named(kind: str) -> None:
    rotary = Rotary.of({"rope_scaling": {"rope_type": kind, "factor": 2.0}}, family("llama", {}), 16)
    with refused("rope-type-unknown", kind=CriterionError) as caught:
        rotary.frequencies()
    assert repr(kind) in caught.value.problem
    for known in ("default", "linear", "llama3", "proportional", "yarn"):
        assert known in caught.value.expected


@pytest.mark.parametrize(
    "scaling",
    [
        *(
            {"type": "yarn", "factor": 4.0, key: wrong}
            for key in ("beta_fast", "beta_slow")
            for wrong in (-1, "x", [1])
        ),
        *(
            {"type": "yarn", "factor": 4.0, "beta_fast": wrong}
            for wrong in (float("nan"), float("inf"), {"a": 1}, True)
        ),
        {"type": "yarn", "factor": 4.0, "rope_theta": 1},
        {"type": "yarn", "factor": 4.0, "beta_fast": 5e-324, "original_max_position_embeddings": 2**62},
        {"type": "linear"},
        {"type": "linear", "factor": 0},
        {"type": "linear", "factor": "4"},
        {"type": "llama3", "factor": 8.0},
        {"type": "llama3", **LLAMA3, "high_freq_factor": 1.0},
        {"type": "llama3", **LLAMA3, "low_freq_factor": True},
    ],
)
def test_parameters_that_are_missing_or_wrong_are_one_line(scaling: dict[str, Any]) -> None:
    rotary = Rotary.of({"rope_scaling": scaling}, family("llama", {}), 16)
    with refused("config-wrong", kind=CriterionError) as error:
        rotary.frequencies()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("weight", ["x", [1], True, float("nan"), -1])
def test_the_logit_scale_of_yarn_is_a_number_or_one_line(weight: object) -> None:
    rotary = Rotary.of({"rope_scaling": {**YARN, "mscale_all_dim": weight}}, family("llama", {}), 16)
    with pytest.raises(CriterionError):
        _ = rotary.yarn_scale


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        *(({"rope_theta": value}, "rope_theta") for value in ("10000", 0, -1.0, True, float("nan"), 10**400)),
        ({"rope_scaling": [1]}, "rope_scaling"),
        ({"rope_parameters": "linear"}, "rope_parameters"),
        ({"rope_scaling": {"rope_theta": []}}, "rope_theta"),
        ({"max_position_embeddings": "many"}, "max_position_embeddings"),
        ({"rope_scaling": {"original_max_position_embeddings": -1}}, "original_max_position_embeddings"),
        ({"rotary_pct": 1.5}, "rotary_pct"),
    ],
)
def test_hostile_values_are_refused_by_name(keys: dict[str, Any], wrong: str) -> None:
    with refused("config-wrong", kind=FamilyError) as caught:
        Rotary.of(keys, family("gpt_neox", {}), 16)
    assert f" {wrong} " in caught.value.problem


@pytest.mark.parametrize("given", [{}, {"beta_fast": 8.0, "beta_slow": 2.0}, {"truncate": False}, {"factor": 1.0}])
def test_yarn_is_what_transformers_computes(given: dict[str, Any]) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = {
        "rope_type": "yarn",
        "rope_theta": 5e5,
        "factor": 8.0,
        "original_max_position_embeddings": 256,
        **given,
    }
    written = {
        "hidden_size": 64,
        "num_attention_heads": 2,
        "max_position_embeddings": 2048,
        "rope_parameters": parameters,
    }
    expected, _ = ROPE_INIT_FUNCTIONS["yarn"](transformers.LlamaConfig(**copy.deepcopy(written)), None)
    rotary = Rotary.of(written, family("llama", {}), 32)
    np.testing.assert_allclose(rotary.frequencies(), expected.numpy(), rtol=1e-5)
