"""A GGUF file is the model that it was made from: the same weights, numbers and scores, under transformers' names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import gatenorm
from gatenorm.checkpoint import open_store
from gatenorm.errors import FamilyError
from gatenorm.families import Layout, attention_weights, detect_layout, families
from gatenorm.families.config_keys import unread_keys
from gatenorm.families.translation import architectures
from tests.errors import refused
from tests.export import gguf_models
from tests.families.gguf_files import write

gguf = pytest.importorskip("gguf")

CASES = {
    "llama-gqa": "llama",
    "llama-tied": "llama",
    "llama-biased": "llama",
    "llama-wide-heads": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
    "phi3-partial": "phi3",
    "gpt_oss": "gpt-oss",
}
# By how much a row moves at most when it is stored so, relative to its length.
ROUNDING = {"F16": 2.0**-11, "BF16": 2.0**-8, "Q8_0": 0.01, "Q4_1": 0.1}


@pytest.mark.parametrize("case", CASES)
def test_the_file_is_the_model(case: str, tiny_models: Callable[..., Path], tmp_path: Path):
    directory = tiny_models(case)
    own = detect_layout(open_store(write(directory, CASES[case], tmp_path / "model.gguf")))
    layout = detect_layout(open_store(directory))
    for what in ("model_type", "layers", "width", "heads", "kv_heads", "head_dim", "context", "softcap"):
        assert getattr(own, what) == getattr(layout, what), what
    assert own.rotary is not None
    assert layout.rotary is not None
    assert (own.rotary.dims, own.rotary.theta) == (layout.rotary.dims, pytest.approx(layout.rotary.theta))
    named = {name for name in layout.checkpoint.specs if "mlp" not in name or not layout.data.mixture}
    assert named <= {*own.checkpoint.specs}
    for name in named:
        # Adding 1 to a gain and taking it away again rounds it.
        np.testing.assert_allclose(own.checkpoint.float32(name), layout.checkpoint.float32(name), atol=2e-7)
    for role in "qkvo":
        mine, theirs = (getattr(attention_weights(one, 1), role).float32() for one in (own, layout))
        np.testing.assert_array_equal(mine, theirs)
    assert own.checkpoint.name == "model"
    # What the file says is read: nothing is named that nobody reads.
    assert unread_keys(own.checkpoint.config, own.data, own.model_type) == ()


def test_runs_of_rows_that_change_places_may_begin_anywhere(tiny_models: Callable[..., Path], tmp_path: Path):
    directory = tiny_models("llama-gqa")
    own = detect_layout(open_store(write(directory, "llama", tmp_path / "model.gguf", "Q8_0"))).checkpoint
    name = "model.layers.1.self_attn.q_proj.weight"
    whole = own.float32(name)
    for rows in (slice(0, 3), slice(5, 21), slice(8, 16), slice(60, None), slice(7, 7)):
        np.testing.assert_array_equal(own.float32(name, rows), whole[rows])


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("criterion", ["gate-norm", "gate-norm-rope", "gate-ov"])
def test_scores_are_those_of_the_model_but_for_its_rounding(
    dtype: str, criterion: str, tiny_models: Callable[..., Path], tmp_path: Path
):
    directory = tiny_models("llama-gqa")
    file = write(directory, "llama", tmp_path / "model.gguf", dtype)
    found, expected = (gatenorm.score(model, criterion).layers for model in (file, directory))
    # A product of matrices moves by what each of them does.
    factors = 4 if criterion == "gate-ov" else 2
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.score == pytest.approx(theirs.score, rel=factors * ROUNDING[dtype])
        assert mine.score != theirs.score


@pytest.mark.parametrize(("dtype", "types", "loss"), [("q4_k_m", {"Q4_K"}, 0.15), ("q6_k", {"Q6_K"}, 0.03)])
def test_scores_of_k_types_move_by_no_more_than_the_gate_matrix_does(
    dtype: str, types: set[str], loss: float, tmp_path: Path
):
    pytest.importorskip("xllamacpp")  # which brings their quantiser
    directory, file = gguf_models.write("wide", tmp_path / "model"), tmp_path / "model.gguf"
    gatenorm.export(directory, "gguf", file, dtype=dtype)
    own, theirs = (detect_layout(open_store(path)) for path in (file, directory))
    assert {own.checkpoint.spec(own.tensor(0, f"{own.projections[role]}.weight")).dtype for role in "qk"} == types
    for mine, before in zip(gatenorm.score(own).layers, gatenorm.score(theirs).layers, strict=True):
        gates = [gate(layout, mine.layer) for layout in (own, theirs)]
        assert mine.score == pytest.approx(np.linalg.norm(gates[0]), rel=1e-5)
        error = float(np.linalg.norm(gates[0] - gates[1]))
        assert 0 < abs(mine.score - before.score) <= error * (1 + 1e-5)
        assert error < loss * before.score


def gate(layout: Layout, layer: int) -> np.ndarray:
    """The gate matrix of a layer in float64, every key head repeated for its group."""
    weights = attention_weights(layout, layer)
    heads = range(weights.q.heads)
    q, k = ([p.head(h).astype(float) for h in range(p.heads)] for p in (weights.q, weights.k))
    return sum((q[h].T @ k[h // (len(q) // len(k))] for h in heads), np.zeros((layout.width, layout.width)))


def test_queries_and_keys_alone_are_read(tiny_models: Callable[..., Path], tmp_path: Path):
    for case, architecture in (("llama-gqa", "llama"), ("phi3", "phi3")):
        file = write(tiny_models(case), architecture, tmp_path / f"{case}.gguf", "Q8_0")
        layout = detect_layout(open_store(file))
        gatenorm.score(layout)
        rows = layout.layers * (layout.heads + layout.kv_heads) * layout.head_dim
        assert layout.checkpoint.bytes_read == rows * layout.width // 32 * 34


def test_names_are_those_of_the_gguf_package(tiny_models: Callable[..., Path]):
    known = architectures("gguf")
    assert {*CASES.values()} == {*known}
    for name, model_type in known.items():
        rules, path = families()[model_type].dialects["gguf"], families()[model_type].block.path
        arch = next(arch for arch, called in gguf.MODEL_ARCH_NAMES.items() if called == name)
        table = gguf.get_tensor_name_map(arch, 2)
        ours: dict[str, set[str]] = {module: {own} for own, module in rules.outer.items()}
        for own, module in rules.block.items():
            ours.setdefault(f"{path}.1.{module}", set()).add(f"blk.1.{own.removesuffix('.weight')}")
        for module, names in ours.items():
            # None where the converter renames a tensor before it looks it up: experts in one.
            assert table.get_name(module) in (*names, None), module


@pytest.mark.parametrize(("factor", "original"), [(8.0, 8192), (32.0, 8192), (4.0, 2048)])
def test_llama_3_scaling_is_told_from_its_factors(factor: float, original: int, tmp_path: Path):
    rope = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = transformers.LlamaConfig(
        hidden_size=128,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=96,
        rope_parameters={**rope, "rope_theta": 500000.0, "original_max_position_embeddings": original},
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    waves, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 500000.0 ** -(np.arange(0, 64, 2) / 64)
    file = write(tmp_path, "llama", tmp_path / "model.gguf", factors=plain / waves.numpy())
    layout = detect_layout(open_store(file))
    assert layout.rotary is not None
    assert {key: layout.rotary.scaling[key] for key in rope} == rope
    assert layout.rotary.scaling["original_max_position_embeddings"] == original
    odd = write(tmp_path, "llama", tmp_path / "odd.gguf", factors=np.linspace(1, 3, 32))
    with refused("rope-type-unknown"):
        gatenorm.score(odd, "gate-norm-rope")


def test_an_unknown_architecture_is_refused_by_name(tiny_models: Callable[..., Path], tmp_path: Path):
    file = write(tiny_models("llama-gqa"), "llama", tmp_path / "model.gguf")
    other = file.with_name("other.gguf")
    other.write_bytes(file.read_bytes().replace(b"llama", b"mamba"))
    with refused("family-unknown", kind=FamilyError) as caught:
        detect_layout(open_store(other))
    assert "mamba" in caught.value.problem
