"""What is refused, and how: unknown families, configs that contradict the weights, stored codes, hostile values."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers
from safetensors.torch import load_file, save_file

from gatenorm.checkpoint import TensorStore, open_store
from gatenorm.errors import FamilyError, GatenormError, RecordError
from gatenorm.families import attention_weights, detect_layout, families
from gatenorm.families.family import family
from gatenorm.records import Edits, ModelIdentity, Plan, to_json
from tests.errors import refused
from tests.tiny_models import CASES

TinyModels = Callable[..., Path]


@pytest.fixture
def model(tiny_models: TinyModels, tmp_path: Path) -> Path:
    """A copy of a tiny Llama, to be spoilt."""
    return Path(shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model"))


def change(directory: Path, **keys: Any) -> Path:
    path = directory / "config.json"
    config = {**json.loads(path.read_text()), **keys}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))
    return directory


def refusal(directory: Path, code: str, field: str = "", *, assume: str | None = None) -> GatenormError:
    with refused(code, field, FamilyError) as error:
        detect_layout(open_store(directory), assume)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    return error.value


def test_an_unknown_family_is_not_taken_for_one_that_is_spelled_alike(model: Path) -> None:
    natural = detect_layout(open_store(model))
    for name in ("lama", "gpt_osss", "zambaa"):
        unknown = refusal(change(model, model_type=name), "family-unknown")
        assert f"'{name}'" in unknown.problem
        assert "llama" not in unknown.hint
        assert "docs/families.md" in unknown.hint
    assert "None" in refusal(change(model, model_type=...), "family-unknown").problem
    layout = detect_layout(open_store(model), assume="llama")
    assert layout.assumed
    assert not natural.assumed
    assert layout.identity().model_type == "llama"
    np.testing.assert_array_equal(attention_weights(layout, 3).k.float32(), attention_weights(natural, 3).k.float32())
    misspelt = refusal(model, "family-unknown", "family", assume="falconn")
    assert misspelt.given == "falconn"
    assert "'falcon'" in misspelt.hint
    change(model, model_type="paligemma", text_config={"model_type": "gemma3_text"})
    assert "gemma3_text" in refusal(model, "family-unknown").hint
    change(model, text_config={"model_type": ["gemma3_text"]})
    assert "gemma3_text" not in refusal(model, "family-unknown").hint


def test_assuming_the_wrong_family_says_what_is_missing(model: Path) -> None:
    assert "transformer.h" in refusal(model, "tensor-missing", assume="gpt2").problem
    assert "qkv_proj" in refusal(model, "tensor-missing", assume="phi3").problem


@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [
        ({"num_hidden_layers": 5}, "layers-differ", ["5 layers", "hold 4"]),
        ({"num_hidden_layers": 3}, "layers-differ", ["3 layers", "hold 4"]),
        ({"num_hidden_layers": 2**31 - 1}, "layers-differ", ["2147483647 layers", "hold 4"]),
        ({"num_attention_heads": 4, "head_dim": None}, "tensor-shape-wrong", ["k_proj.weight", "[16, 64]", "[32, 64]"]),
        ({"num_key_value_heads": 4}, "tensor-shape-wrong", ["k_proj.weight", "[16, 64]", "[32, 64]"]),
        ({"num_key_value_heads": 3}, "config-wrong", ["8 query", "3 key"]),
        ({"num_key_value_heads": 16}, "config-wrong", ["8 query", "16 key"]),
        ({"hidden_size": 32}, "tensor-shape-wrong", ["q_proj.weight", "[64, 64]"]),
        ({"head_dim": 16}, "tensor-shape-wrong", ["q_proj.weight", "[64, 64]", "[128, 64]"]),
        ({"num_attention_heads": 128, "head_dim": None}, "config-wrong", ["128 query", "64"]),
        ({"num_hidden_layers": ...}, "config-incomplete", ["num_hidden_layers"]),
        ({"hidden_size": None}, "config-incomplete", ["hidden_size"]),
    ],
)
def test_a_config_that_contradicts_the_weights(model: Path, keys: dict[str, Any], code: str, said: list[str]) -> None:
    problem = refusal(change(model, **keys), code).problem
    assert [part for part in said if part not in problem] == []


HOSTILE = [True, False, 0, -1, 1.5, 2.0, 10**12, 10**400, "8", "", [8], {"a": 1}, float("nan"), float("inf")]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda v: repr(v)[:12])
@pytest.mark.parametrize(
    "key", ["num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"]
)
def test_hostile_dimensions(model: Path, key: str, value: Any) -> None:
    assert f" {key} " in refusal(change(model, **{key: value}), "config-wrong").problem


@pytest.mark.parametrize("value", HOSTILE, ids=lambda v: repr(v)[:12])
@pytest.mark.parametrize(
    ("case", "key"),
    [
        ("llama-gqa", "rope_theta"),
        ("llama-gqa", "rope_scaling"),
        ("llama-gqa", "rope_parameters"),
        ("llama-gqa", "max_position_embeddings"),
        ("llama-gqa", "model_type"),
        ("llama-gqa", "gatenorm"),
        ("llama-gqa", "layer_types"),
        ("gemma2", "query_pre_attn_scalar"),
        ("gemma2", "attn_logit_softcapping"),
        ("gpt2", "scale_attn_weights"),
        ("gpt2", "add_cross_attention"),
        ("gpt_neox", "use_parallel_residual"),
        ("gpt_neox", "rotary_pct"),
        ("falcon-7b", "multi_query"),
        ("falcon-7b", "alibi"),
        ("falcon-7b", "num_ln_in_parallel_attn"),
        ("opt", "do_layer_norm_before"),
    ],
)
def test_hostile_values_never_crash(case: str, key: str, value: Any, tiny_models: TinyModels) -> None:
    """Understood or refused, but nothing else: no traceback of another kind."""
    checkpoint = open_store(tiny_models(case))
    checkpoint.config = {**checkpoint.config, key: value}
    message = ""
    try:
        layout = detect_layout(checkpoint)
        assert layout.scale > 0
        layout.refusal()
    except GatenormError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 600


@pytest.mark.parametrize(("case", "key"), [("gpt_neox", "use_parallel_residual"), ("falcon-7b", "alibi")])
@pytest.mark.parametrize("value", ["false", 0, None, []])
def test_a_switch_must_be_true_or_false(case: str, key: str, value: Any, tiny_models: TinyModels) -> None:
    checkpoint = open_store(tiny_models(case))
    checkpoint.config = {**checkpoint.config, key: value}
    with refused("config-wrong", kind=FamilyError) as caught:
        detect_layout(checkpoint)
    assert f" {key} is {value!r}" in caught.value.problem


def test_what_a_config_leaves_out_is_what_transformers_takes() -> None:
    """For every key of every family's defaults, and for the context."""
    for model_type, data in families().items():
        stock = type(getattr(transformers, data.classes.config)().get_text_config())()
        for key, default in data.defaults.items():
            # What __post_init__ makes of it is another thing: it takes windows away that are switched off.
            source = type(stock) if hasattr(type(stock), key) else stock
            if hasattr(source, key):  # inherited keys mean nothing to a config class that lacks them
                expected = getattr(source, key)
                assert default == expected, (model_type, key)
        context = [key for key in data.dimensions.context if isinstance(key, str)]
        assert data.defaults[context[0]] == stock.max_position_embeddings


def test_classes_exist_in_transformers() -> None:
    for data in families().values():
        assert all(hasattr(transformers, name) for name in data.classes.to_dict().values())


def test_family_by_an_unknown_name() -> None:
    with refused("family-unknown", kind=FamilyError) as caught:
        family("mamba", {})
    assert "'mamba'" in caught.value.problem


@pytest.mark.parametrize(
    ("case", "keys", "expected"),
    [
        ("llama-gqa", {"architectures": 5}, "architectures 5, which is no list of class names"),
        ("llama-gqa", {"architectures": "LlamaForCausalLM"}, "no list of class names"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "ties each layer's logits to its index"),
        ("gpt2", {"add_cross_attention": True}, "cross-attention"),
        ("falcon-40b", {"parallel_attn": False}, "no published Falcon"),
    ],
)
def test_refusal_to_prune(case: str, keys: dict[str, Any], expected: str, tiny_models: TinyModels) -> None:
    checkpoint = open_store(tiny_models(case))
    assert detect_layout(checkpoint).refusal() is None
    checkpoint.config = {**checkpoint.config, **keys}
    assert expected in (detect_layout(checkpoint).refusal() or "")


def test_no_layer_is_yielded_that_is_not_there(model: Path) -> None:
    layout = detect_layout(open_store(model))
    for layer in (-1, 4):
        with refused("no-attention", kind=FamilyError):
            attention_weights(layout, layer)


def test_weights_of_something_else(model: Path) -> None:
    safetensors.numpy.save_file({"encoder.weight": np.ones((2, 2), np.float32)}, model / "model.safetensors")
    assert "model.layers.*" in refusal(model, "tensor-missing").problem


def test_nothing_but_shapes_is_read_to_understand(model: Path) -> None:
    checkpoint = open_store(model)
    detect_layout(checkpoint)
    assert checkpoint.bytes_read == 0


# ---- quantised checkpoints


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"quant_method": "hqq", "quant_config": {}}, "HQQ"),
        ({"quant_method": "aqlm"}, "AQLM"),
        ({"quant_method": "eetq"}, "EETQ"),
        ({"quant_method": "torchao"}, "torchao"),
        ({"quant_method": "quanto"}, "Quanto"),
        ({"quant_method": "vptq"}, "VPTQ"),
        ({"quant_method": "spqr"}, "SpQR"),
        ({"quant_method": "of-tomorrow", "bits": 4}, "of-tomorrow"),
        ({"quant_method": "awq", "version": "gemv"}, "AWQ (gemv)"),
        ({"quant_method": "gptq", "checkpoint_format": "marlin"}, "GPTQ (marlin)"),
        (
            {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
            "compressed-tensors (nvfp4-pack-quantized)",
        ),
    ],
)
def test_a_quantisation_that_cannot_be_read_is_refused_by_name(model: Path, settings: dict[str, Any], named: str):
    assert named in refusal(change(model, quantization_config=settings), "weights-quantised", "model").problem
    refusal(model, "weights-quantised", "model", assume="llama")


@pytest.mark.parametrize("given", [{"bits": 4}, "int8", [1], {"quant_method": ["x"]}])
def test_a_quantisation_config_of_no_known_form(model: Path, given: Any) -> None:
    refusal(change(model, quantization_config=given), "weights-quantised", "model")


@pytest.mark.parametrize("nothing", [None, {}])
def test_an_empty_quantisation_config_is_none(model: Path, nothing: Any) -> None:
    assert detect_layout(open_store(change(model, quantization_config=nothing))).layers == 4


@pytest.mark.parametrize("suffix", ["weight_scale", "weight_scale_inv", "weight.absmax", "SCB"])
def test_scales_beside_a_weight_are_refused(model: Path, suffix: str) -> None:
    tensors = load_file(model / "model.safetensors")
    name = "model.layers.2.self_attn.q_proj"
    tensors[f"{name}.weight"] = tensors[f"{name}.weight"].to(torch.float8_e4m3fn)
    tensors[f"{name}.{suffix}"] = torch.ones(1)
    save_file(tensors, model / "model.safetensors")
    assert f"{name}.{suffix}" in refusal(model, "weights-quantised", "model").problem


@pytest.mark.parametrize("suffix", ["qweight", "weight_packed"])
def test_codes_in_place_of_a_weight_are_refused(model: Path, suffix: str) -> None:
    tensors = load_file(model / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    tensors[f"{name}.{suffix}"] = tensors.pop(f"{name}.weight").to(torch.int32)
    save_file(tensors, model / "model.safetensors")
    assert f"{name}.{suffix}" in refusal(model, "weights-quantised", "model").problem


def test_plain_fp8_is_numbers(model: Path) -> None:
    tensors = {k: v.to(torch.float8_e4m3fn) for k, v in load_file(model / "model.safetensors").items()}
    save_file(tensors, model / "model.safetensors")
    read = attention_weights(detect_layout(open_store(model)), 1).q.float32()
    expected = tensors["model.layers.1.self_attn.q_proj.weight"].float().numpy()
    np.testing.assert_array_equal(read, expected)


# ---- the entry of pruned checkpoints


def removed(*layers: Any) -> list[dict[str, Any]]:
    return [{"layer": layer, "sublayer": "attention", "operation": "remove"} for layer in layers]


BLOCK = {
    "path": "model.layers",
    "attention": ["input_layernorm", "self_attn"],
    "before": [],
    "branch": ["post_attention_layernorm", "mlp"],
    "after": [],
    "dropout": None,
    "returns": "tensor",
    "mlp": ["mlp"],
    "norm": None,
    "parallel": False,
}
PLAN = to_json(Plan(ModelIdentity("m", "llama", 4, "", {}), Edits.of("attention", (1, 3))))


# What an error of several fields together is about.
WHOLE_ENTRY = "the gatenorm entry of config.json"


def pruned(model: Path, **changes: Any) -> TensorStore:
    entry = {
        "schema": "gatenorm/pruned/1",
        "base_model_type": "llama",
        "layers": 4,
        "edits": removed(1, 3),
        "block": BLOCK,
    }
    entry |= {"plan": PLAN, **changes}
    entry = {k: v for k, v in entry.items() if v is not ...}
    return open_store(change(model, model_type="gatenorm_llama", num_hidden_layers=2, gatenorm=entry))


def test_a_pruned_checkpoint_counts_its_blocks(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    gone = ("model.layers.1.self_attn", "model.layers.1.input", "model.layers.3.self_attn", "model.layers.3.input")
    save_file({k: v for k, v in tensors.items() if not k.startswith(gone)}, model / "model.safetensors")
    layout = detect_layout(pruned(model))
    assert (layout.layers, layout.edits.attention, layout.attention_layers) == (4, (1, 3), (0, 2))
    assert layout.model_type == "llama"
    assert not layout.assumed
    with refused("no-attention", kind=FamilyError):
        attention_weights(layout, 1)


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"schema": "gatenorm/pruned/2"}, "schema-unknown", ""),
        ({"schema": ...}, "schema-unknown", ""),
        ({"layers": "4"}, "field-wrong", "layers"),
        ({"layers": True}, "field-wrong", "layers"),
        ({"layers": 10**12, "edits": "all"}, "field-wrong", "edits"),
        ({"edits": removed(4)}, "field-wrong", WHOLE_ENTRY),
        ({"edits": removed(-1)}, "field-wrong", "edits[0].layer"),
        ({"edits": removed(True)}, "field-wrong", "edits[0].layer"),
        ({"edits": removed(1.0)}, "field-wrong", "edits[0].layer"),
        ({"edits": [*removed(1), {**removed(1)[0], "operation": "other"}]}, "field-wrong", "edits"),
        ({"edits": removed(0, 1, 2, 3)}, "field-wrong", WHOLE_ENTRY),
        ({"edits": 3}, "field-wrong", "edits"),
        ({"edits": ...}, "field-missing", "edits"),
        ({"base_model_type": ...}, "field-missing", "base_model_type"),
        ({"base_model_type": 7}, "field-wrong", "base_model_type"),
    ],
    ids=str,
)
def test_a_damaged_entry_is_refused(model: Path, changes: dict[str, Any], code: str, field: str) -> None:
    checkpoint = pruned(model, **changes)
    with refused(code, field, RecordError):
        detect_layout(checkpoint)


def test_an_entry_that_claims_other_layers_is_refused(model: Path) -> None:
    with refused("layers-differ", kind=FamilyError):
        detect_layout(pruned(model, layers=10**12))


def test_what_the_config_says_under_another_name_comes_before_the_familys_default(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    source = shutil.copytree(tiny_models("gpt2"), tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    config["num_attention_heads"] = config.pop("n_head")
    (source / "config.json").write_text(json.dumps(config))
    assert detect_layout(open_store(source)).heads == 4  # the default of the family is 12


def test_gains_and_biases_of_a_foreign_shape_are_refused(tiny_models: TinyModels, tmp_path: Path) -> None:
    for name, tensor, read in (
        ("llama-gqa", "model.layers.1.input_layernorm.weight", lambda a: a.gain("input")),
        ("qwen3", "model.layers.1.self_attn.q_norm.weight", lambda a: a.gain("q")),
        ("gpt2", "transformer.h.1.attn.c_attn.bias", lambda a: a.bias("q")),
        ("qwen2", "model.layers.1.self_attn.k_proj.bias", lambda a: a.bias("k")),
    ):
        source = shutil.copytree(tiny_models(name), tmp_path / name)
        tensors = load_file(source / "model.safetensors")
        tensors[tensor] = tensors[tensor][:1]
        save_file(tensors, source / "model.safetensors")
        layout = detect_layout(open_store(source))
        assert read(attention_weights(layout, 0)) is not None
        with refused("tensor-shape-wrong", kind=FamilyError) as caught:
            read(attention_weights(layout, 1))
        assert f"{tensor} has shape [1]" in caught.value.problem


@pytest.mark.parametrize("case", CASES)
def test_a_whole_model_lacks_nothing_and_attention_alone_is_no_model(
    case: str, tiny_models: TinyModels, tmp_path: Path
) -> None:
    model = tiny_models(case)
    whole = detect_layout(open_store(model))
    assert whole.refusal() is None
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    attention = tuple(prefix for layer in range(whole.layers) for prefix in whole.removed_with(layer))
    tensors = load_file(model / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if n.startswith(attention)}, tmp_path / "model.safetensors")
    alone = detect_layout(open_store(tmp_path))
    mlps = f"the MLP weights of layers 0-{whole.layers - 1} and " if whole.mlp_layers else ""
    expected = f"its files lack {mlps}the embeddings"
    assert (alone.refusal() or "").startswith(expected)


def test_one_mlp_that_is_missing_is_named(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if "layers.2.mlp" not in n}, model / "model.safetensors")
    assert "lack the MLP weights of layers 2, " in (detect_layout(open_store(model)).refusal() or "")
