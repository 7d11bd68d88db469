"""A GGUF file pruned as a file: copies of its tensors, all that it says besides, and what llama.cpp makes of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import gatenorm
from gatenorm.api import open_model
from gatenorm.checkpoint.formats.gguf.store import GgufStore
from gatenorm.engines import engine_named
from gatenorm.errors import GatenormError, OutputError, PlanError
from gatenorm.exports.gguf import writer
from gatenorm.exports.registry import Variant
from gatenorm.exports.verify.references import silenced
from gatenorm.exports.verify.verify import verify
from gatenorm.records import Edits
from tests.errors import refused
from tests.export import gguf_models
from tests.families.gguf_files import write

gguf = pytest.importorskip("gguf")

TinyModels = Callable[..., Path]


def pruned(source: Path, out: Path, drop: tuple[int, ...] = (1, 3), kind: str = "attention") -> Path:
    return gatenorm.prune(source, out, gatenorm.plan(source, drop=drop, kind=kind)).path


def as_bytes(store: GgufStore, name: str) -> bytes:
    return np.ascontiguousarray(store.raw(name)).tobytes()


@pytest.fixture
def source(tiny_models: TinyModels, tmp_path: Path) -> Path:
    return write(tiny_models("llama-gqa"), "llama", tmp_path / "source.gguf", "Q8_0")


def test_tensors_that_stay_are_copies_and_all_else_is_said_again(source: Path, tmp_path: Path):
    out = pruned(source, tmp_path / "pruned.gguf")
    before, after = GgufStore(source), GgufStore(out)
    gone = {name for name in before.specs if name.startswith(("blk.1.attn", "blk.3.attn"))}
    assert {*after.specs} == {*before.specs} - gone
    for name in after.specs:
        assert after.spec(name).dtype == before.spec(name).dtype
        assert as_bytes(after, name) == as_bytes(before, name)
    same = {key for key in before.metadata if key.startswith(("tokenizer.", "general."))} - {"general.architecture"}
    assert {key: after.metadata[key] for key in same} == {key: before.metadata[key] for key in same}
    assert {key: after.kinds[key] for key in same} == {key: before.kinds[key] for key in same}
    assert after.metadata["general.architecture"] == "deci"
    assert after.metadata["deci.attention.head_count"] == [8, 0, 8, 0]
    assert after.metadata["deci.attention.head_count_kv"] == [2, 0, 2, 0]
    record = json.loads(after.metadata["gatenorm.record"])
    assert record["plan"]["model"]["name"] == "source"
    assert Edits.from_json(record["edits"]).attention == (1, 3)
    variant = Variant.exported(out)
    assert variant is not None
    assert variant.edits.attention == (1, 3)


def test_rows_take_the_order_that_deci_has(tiny_models: TinyModels, tmp_path: Path):
    """Qwen2 turns halves of a head together, deci neighbours: bytes of whole rows change places, no number changes."""
    directory = tiny_models("qwen2")
    source = write(directory, "qwen2", tmp_path / "source.gguf", "Q8_0")
    before, after = GgufStore(source), GgufStore(pruned(source, tmp_path / "pruned.gguf"))
    for name in ("blk.0.attn_q.weight", "blk.2.attn_k.weight", "blk.0.attn_q.bias"):
        own, copied = before.raw(name), after.raw(name)
        order = np.arange(len(own)).reshape(-1, 2, 4).swapaxes(1, 2).reshape(-1)  # heads of 8
        np.testing.assert_array_equal(copied, own[order])
    assert as_bytes(after, "blk.0.attn_v.weight") == as_bytes(before, "blk.0.attn_v.weight")


def test_a_pruned_file_is_a_model_again(source: Path, tmp_path: Path):
    first = pruned(source, tmp_path / "first.gguf", (0, 2))
    layout, dense = open_model(first), open_model(source)
    assert (layout.layers, layout.attention_layers, layout.edits.attention) == (4, (1, 3), (0, 2))
    kept = {one.layer: one.score for one in gatenorm.score(dense).layers if one.layer in (1, 3)}
    assert {one.layer: one.score for one in gatenorm.score(layout).layers} == kept
    again = pruned(first, tmp_path / "again.gguf", (1,), "block")
    layout = open_model(again)
    assert (layout.edits.attention, layout.edits.mlp) == ((0, 1, 2), (1,))
    assert layout.pruned is not None
    assert layout.pruned.plan.previous is not None
    once = pruned(source, tmp_path / "once.gguf", (0, 2))
    # In one step or in two, the same tensors.
    assert once.read_bytes() == first.read_bytes()
    name = "model.layers.3.self_attn.q_proj.weight"  # block 2 of the file
    np.testing.assert_array_equal(layout.checkpoint.float32(name), dense.checkpoint.float32(name))


def test_an_export_of_a_directory_is_a_model_too(tmp_path: Path):
    directory = gguf_models.write("llama3", tmp_path / "dense")
    less = gatenorm.prune(directory, tmp_path / "less", gatenorm.plan(directory, drop=[0, 4])).path
    writer.write(open_model(less), tmp_path / "less.gguf", dtype="f32")
    ours, theirs = gatenorm.score(tmp_path / "less.gguf").layers, gatenorm.score(less).layers
    assert [(one.layer, one.score) for one in ours] == [(one.layer, pytest.approx(one.score)) for one in theirs]


@pytest.mark.parametrize(
    ("case", "architecture", "why"),
    [
        ("qwen3", "qwen3", "QK-norm"),
        ("gemma2", "gemma2", "attn_logit_softcapping"),
        ("phi3", "phi3", "fused"),
        ("gpt_oss", "gpt-oss", "gpt_oss"),
    ],
)
def test_what_deci_does_not_compute_is_refused_by_name(
    case: str, architecture: str, why: str, tiny_models: TinyModels, tmp_path: Path
):
    source = write(tiny_models(case), architecture, tmp_path / "source.gguf")
    with refused("not-exportable", kind=OutputError) as caught:
        pruned(source, tmp_path / "pruned.gguf")
    assert why in caught.value.problem
    assert not (tmp_path / "pruned.gguf").exists()


def test_a_key_that_deci_does_not_have_is_refused_by_name(source: Path, tmp_path: Path):
    other = tmp_path / "other.gguf"
    other.write_bytes(source.read_bytes().replace(b"llama.rope.dimension_count", b"llama.attention.temperature"[:26]))
    with refused("not-exportable", kind=OutputError) as caught:
        pruned(other, tmp_path / "pruned.gguf")
    assert "llama.attention.temperatur" in caught.value.problem


def test_nothing_is_put_in_the_place_of_an_attention(source: Path, tmp_path: Path):
    plan = gatenorm.plan(source, drop=[1], replace="linear")
    with refused("model-is-file", kind=GatenormError):
        gatenorm.prune(source, tmp_path / "replaced.gguf", plan)
    with refused("operation-not-for-file", "replace", PlanError):
        gatenorm.prune(
            source, tmp_path / "replaced.gguf", gatenorm.api.FittedPlan(plan, {edit: {} for edit in plan.edits})
        )


def test_a_file_makes_a_file_and_a_directory_a_directory(source: Path, tiny_models: TinyModels, tmp_path: Path):
    with refused("out-of-other-form", "out", OutputError):
        pruned(source, tmp_path / "pruned")
    with refused("out-of-other-form", "out", OutputError):
        pruned(tiny_models("llama-gqa"), tmp_path / "pruned.gguf")
    (tmp_path / "taken.gguf").write_bytes(b"mine")
    with refused("out-taken", "out", OutputError):
        pruned(source, tmp_path / "taken.gguf")
    assert (tmp_path / "taken.gguf").read_bytes() == b"mine"


def test_a_file_that_changes_while_it_is_read_leaves_nothing(source: Path, tmp_path: Path):
    plan, layout = gatenorm.plan(source, drop=[1]), open_model(source)
    os.utime(source, (0, 0))
    with refused("file-changed"):
        gatenorm.prune(layout, tmp_path / "pruned.gguf", plan)
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


@pytest.mark.engines
@pytest.mark.parametrize("dtype", ["f32", "q8_0", "q4_k_m"])
@pytest.mark.parametrize("name", ["stories260K", "stories3M"])
def test_llama_cpp_computes_what_zeros_would_give(name: str, dtype: str, shared: Path, tmp_path: Path):
    pytest.importorskip("xllamacpp")
    source = tmp_path / "source.gguf"
    writer.write(open_model(shared / "models" / name), source, dtype=dtype)
    for drop, kind in (((1, 3), "attention"), ((0,), "attention"), ((2,), "block"), ((1,), "mlp")):
        out = pruned(source, tmp_path / f"{kind}-{drop[0]}.gguf", drop, kind)
        found = verify(out, open_model(source), tokens=24)
        assert found.faults == ()
        assert found.largest_difference == 0
        assert found.cached_layers == len(open_model(out).attention_layers)
    # The comparison tells a layer from its neighbour.
    other, engine = pruned(source, tmp_path / "other.gguf", (2,)), engine_named("llamacpp")
    session = engine.open(other)
    try:
        [found_other] = session.continue_greedily([[3, 5, 7]], 1)
    finally:
        session.close()
    third = open_model(pruned(source, tmp_path / "third.gguf", (3,)))
    left = tmp_path / ".source.gguf-silenced.partial-abandone"  # by a run that was killed
    left.mkdir()
    os.utime(left, (0, 0))
    with silenced(open_model(source), third, engine, tmp_path) as reference:
        assert not left.exists()
        assert np.nanmax(np.abs(reference.logprobs([3, 5, 7], found_other.tokens) - found_other.logprobs)) > 0.01
