"""GGUF files as files: types and keys, whole or not at all, in little memory; damage is found before C++ sees it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import gatenorm
from gatenorm.api import open_model
from gatenorm.checkpoint.formats.gguf.header import read_header
from gatenorm.errors import CheckpointError, MissingExtraError, OutputError
from gatenorm.exports.gguf import types as gguf_types, writer as gguf
from gatenorm.exports.gguf.tensors import interleaved
from gatenorm.exports.registry import export_form
from gatenorm.records import Edits
from tests.errors import refused
from tests.export import gguf_models

gguf_package = pytest.importorskip("gguf")

TinyModels = Callable[..., Path]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with every oddity, pruned at its first and fourth layer; treat it as read-only."""
    directory = tmp_path_factory.mktemp("pruned")
    dense = gguf_models.write("llama3", directory / "dense")
    return gatenorm.prune(dense, directory / "model", gatenorm.plan(dense, drop=[0, 3])).path


@pytest.fixture(scope="module")
def written(pruned: Path) -> Path:
    """It as a float32 file; treat it as read-only."""
    gguf.write(open_model(pruned), pruned.parent / "model.gguf", dtype="f32")
    return pruned.parent / "model.gguf"


def values(path: Path) -> dict[str, np.ndarray]:
    """Every tensor in float32, as the gguf package reads it."""
    reader = gguf_package.GGUFReader(path)
    return {
        t.name: gguf_package.quants.dequantize(t.data, t.tensor_type).reshape(t.shape[::-1].tolist())
        for t in reader.tensors
    }


def test_keys_say_what_was_removed(pruned: Path, written: Path):
    fields = read_header(written).fields
    assert fields["general.architecture"] == "deci"
    assert Edits.from_json(json.loads(fields["gatenorm.edits"])) == Edits.of("attention", (0, 3))
    assert fields["deci.attention.head_count"] == [4, 4, 4, 0, 4, 4]
    assert fields["deci.attention.head_count_kv"] == [0, 2, 2, 0, 2, 2]
    assert fields["deci.attention.key_length"] == fields["deci.rope.dimension_count"] == 24
    assert fields["general.file_type"] == 0
    assert len(fields["tokenizer.ggml.tokens"]) == 416
    assert fields["tokenizer.ggml.tokens"][415] == "[PAD415]"
    assert fields["tokenizer.ggml.token_type"][415] == 5


def test_a_model_of_which_nothing_is_removed_is_llama_and_can_be_read_again(pruned: Path, tmp_path: Path):
    source, out = pruned.parent / "dense", tmp_path / "dense.gguf"
    gguf.write(open_model(source), out, dtype="f32")
    fields, layout = read_header(out).fields, open_model(out)
    assert (fields["general.architecture"], fields["llama.attention.head_count"]) == ("llama", 4)
    assert (layout.model_type, layout.layers, layout.edits) == ("llama", 6, Edits())
    assert_scores_equal(out, source)


def test_what_was_exported_of_a_pruned_directory_is_a_model_again(pruned: Path, written: Path, tmp_path: Path):
    layout = open_model(written)
    assert (layout.layers, layout.edits.attention) == (6, (0, 3))
    assert_scores_equal(written, pruned)
    assert gatenorm.inspect(written).attention_removed_in == (0, 3)
    again = gatenorm.prune(written, tmp_path / "again.gguf", gatenorm.plan(written, drop=[5])).path
    assert open_model(again).edits.attention == (0, 3, 5)


def assert_scores_equal(one: Path, other: Path) -> None:
    found, expected = ({s.layer: s.score for s in gatenorm.score(path).layers} for path in (one, other))
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_removed_attention_leaves_no_tensor_but_in_layer_0(written: Path):
    names = read_header(written).tensors
    mlp = [f"ffn_{part}.weight" for part in ("norm", "gate", "up", "down")]
    assert sorted(n[6:] for n in names if n.startswith("blk.3.")) == sorted(mlp)
    assert sorted(n[6:] for n in names if n.startswith("blk.0.")) == sorted(
        [*mlp, "attn_norm.weight", "attn_output.weight"]
    )
    assert not values(written)["blk.0.attn_output.weight"].any()


def test_the_card_names_the_licence(pruned: Path, tmp_path: Path):
    shutil.copytree(pruned, tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text('---\nlicense: other\nlicense_name: "Llama 3"\n---\n\nlicense: no\n')
    gguf.write(open_model(tmp_path / "model"), tmp_path / "model.gguf")
    fields = read_header(tmp_path / "model.gguf").fields
    assert (fields["general.license"], fields["general.license.name"]) == ("other", "Llama 3")


def test_a_giant_card_stops_no_export(pruned: Path, tmp_path: Path):
    """What it says of the licence stands at its beginning."""
    shutil.copytree(pruned, tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("---\nlicense: mit\n---\n")
    os.truncate(tmp_path / "model" / "README.md", 100 << 20)
    tracemalloc.start()
    try:
        gatenorm.export(tmp_path / "model", "gguf", tmp_path / "model.gguf")
        assert tracemalloc.get_traced_memory()[1] < 90 << 20
    finally:
        tracemalloc.stop()
    assert read_header(tmp_path / "model.gguf").fields["general.license"] == "mit"


def test_rotary_pairs_come_to_stand_side_by_side():
    rows = np.arange(12).reshape(12, 1)  # two heads of six dimensions
    assert interleaved(rows, 6)[:, 0].tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


@pytest.mark.parametrize(
    ("dtype", "types", "error"),
    [
        ("auto", {"F32"}, 0.0),
        ("f16", {"F16", "F32"}, 2**-11),
        ("bf16", {"BF16", "F32"}, 2**-8),
        ("q8_0", {"Q8_0", "F16", "F32"}, 2**-7),
        ("q6_k", {"Q8_0", "F16", "F32"}, 2**-7),
    ],
)
def test_types(pruned: Path, written: Path, dtype: str, types: set[str], error: float, tmp_path: Path):
    out = tmp_path / "model.gguf"
    exported = gguf.write(open_model(pruned), out, dtype=dtype)
    assert gguf.stored_types(out) == types
    assert exported.bytes == out.stat().st_size
    exact = values(written)
    for name, found in values(out).items():
        largest = np.abs(exact[name]).max(axis=-1, keepdims=True)
        assert (np.abs(found - exact[name]) <= error * largest).all(), name


def test_auto_keeps_what_is_stored_bit_by_bit(tiny_models: TinyModels, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(tiny_models("llama-gqa", dtype="bfloat16"), directory)
    with_tokenizer(directory)
    gguf.write(open_model(directory), tmp_path / "model.gguf")
    stored = open_model(directory).checkpoint.raw("model.layers.1.mlp.up_proj.weight")
    tensor = next(
        t for t in gguf_package.GGUFReader(tmp_path / "model.gguf").tensors if t.name == "blk.1.ffn_up.weight"
    )
    assert tensor.tensor_type.name == "BF16"
    np.testing.assert_array_equal(tensor.data.view(np.uint16).reshape(stored.shape), stored)


def test_numbers_beyond_f16_are_refused(pruned: Path, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(pruned, directory)
    tensors = load_file(directory / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = 1e5
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with refused("dtype-too-narrow", kind=OutputError) as caught:
        gguf.write(open_model(directory), tmp_path / "model.gguf", dtype="f16")
    assert "blk.1.ffn_up.weight" in caught.value.problem
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_type_is_written_with_numbers_that_are_none(name: str, value: float):
    values = np.ones((2, 32), np.float32)
    values[1, 3] = value
    with refused("weights-not-finite"):
        gguf_types.encode(values, "F32", name, "blk.0")


@pytest.mark.parametrize("name", ["F16", "Q8_0", "Q4_K", "Q6_K"])
@pytest.mark.parametrize("size", [1e9, 1e-9, 1e-40])
def test_what_the_scales_of_a_type_cannot_hold_is_refused(name: str, size: float):
    values = np.full((2, 256), size, np.float32)
    values[0, 0] = 0
    with refused("dtype-too-narrow"):
        gguf_types.encode(values, "F32", name, "blk.0")
    assert gguf_types.encode(np.zeros((2, 32), np.float32), "F32", "Q8_0", "blk.0").size


def test_k_types_without_a_quantiser_name_the_extra(pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gguf_types._ggml.cache_clear()
    monkeypatch.setattr(gguf_types, "find_spec", lambda name: None)
    with refused("missing-extra", kind=MissingExtraError) as caught:
        gguf.write(open_model(pruned), tmp_path / "model.gguf", dtype="q4_k_m")
    assert "xllamacpp" in caught.value.args[1]
    assert caught.value.args[2] == "llamacpp"
    gguf_types._ggml.cache_clear()


def test_the_more_precise_layers_are_llamacpps():
    """The rule of ``use_more_bits`` in src/llama-quant.cpp for 32 layers."""
    more = [i for i in range(32) if gguf_types.more_bits(i, 32)]
    assert more == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]


def with_tokenizer(directory: Path) -> None:
    """Any tokenizer that fits into 96 rows."""
    from tests.export.test_gguf_tokenizer import GPT2

    texts = ["<end>", *map(chr, range(33, 127)), "Ġ"]
    model = {"type": "BPE", "vocab": {text: i for i, text in enumerate(texts)}, "merges": []}
    (directory / "tokenizer.json").write_text(json.dumps({"model": model, "pre_tokenizer": GPT2}))
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("qwen3", "QK-norm"),
        ("gemma2", "RMSNorm"),
        ("olmo2", "post-norm"),
        ("gpt2", "gpt2 blocks"),
        ("mistral", "16 tokens of 128"),
    ],
)
def test_what_deci_cannot_express_is_refused_by_name(tiny_models: TinyModels, name: str, said: str, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(tiny_models(name), directory)
    with_tokenizer(directory)
    assert said in "; ".join(gguf.obstacles(open_model(directory)))
    with refused("not-exportable", kind=OutputError) as caught:
        export_form("gguf").write(open_model(directory), tmp_path / "model.gguf")
    assert said in caught.value.problem
    assert not (tmp_path / "model.gguf").exists()


def test_yarn_is_refused_by_name(tiny_models: TinyModels, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(tiny_models("llama-gqa"), directory)
    with_tokenizer(directory)
    config = json.loads((directory / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}
    (directory / "config.json").write_text(json.dumps(config))
    assert any("yarn" in reason for reason in gguf.obstacles(open_model(directory)))


def test_a_base_model_without_its_head_is_refused(tiny_models: TinyModels, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(tiny_models("llama-gqa", base_only=True), directory)
    assert "base model" in gguf.obstacles(open_model(directory))[0]


def test_a_tensor_of_another_shape_is_refused(pruned: Path, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(pruned, directory)
    tensors = load_file(directory / "model.safetensors")
    tensors["model.layers.2.mlp.down_proj.weight"] = tensors["model.layers.2.mlp.down_proj.weight"][:, :-1].copy()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with refused("tensor-shape-wrong", kind=CheckpointError) as caught:
        gguf.write(open_model(directory), tmp_path / "model.gguf")
    for part in ("layers.2.mlp.down_proj.weight", "[64, 335]", "[64, 336]"):
        assert part in caught.value.problem


def test_an_output_that_is_there_is_left_alone(pruned: Path, tmp_path: Path):
    out = tmp_path / "model.gguf"
    out.write_text("mine")
    with pytest.raises(OutputError):
        gguf.write(open_model(pruned), out)
    assert out.read_text() == "mine"


def test_a_full_disk_leaves_nothing_behind(pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with refused("disk-full", kind=OutputError):
        gguf.write(open_model(pruned), tmp_path / "new" / "model.gguf", progress=full)
    assert list(tmp_path.iterdir()) == []


def test_progress_ends_at_the_end(pruned: Path, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    gguf.write(open_model(pruned), tmp_path / "model.gguf", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == max(done for done, _ in seen)


MEASURE = """
import sys, threading, time
from pathlib import Path
from gatenorm.api import open_model
from gatenorm.exports.gguf.writer import write
import gguf.quants
def anonymous():
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1]) * 1024
layout, bare, peak, done = open_model(sys.argv[1]), anonymous(), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous()); time.sleep(0.002)
thread = threading.Thread(target=watch, daemon=True); thread.start()
write(layout, Path(sys.argv[2]), dtype=sys.argv[3])
done = True; thread.join()
print(peak - bare)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RssAnon is Linux's")
@pytest.mark.parametrize("dtype", ["auto", "q8_0"])
def test_memory_stays_far_below_the_models_size(tmp_path: Path, dtype: str):
    """A sparse checkpoint of 300 MB, of which one tensor has 134 MB."""
    directory = tmp_path / "model"
    directory.mkdir()
    width, inner, rows = 1024, 4096, 65536
    shapes = {"model.embed_tokens.weight": (rows, width), "model.norm.weight": (width,)}
    for i in range(5):
        at = f"model.layers.{i}"
        shapes |= {f"{at}.self_attn.{role}_proj.weight": (width, width) for role in "qkvo"}
        shapes |= {f"{at}.mlp.{part}_proj.weight": (inner, width) for part in ("gate", "up")}
        shapes |= {f"{at}.mlp.down_proj.weight": (width, inner)}
        shapes |= {f"{at}.{norm}_layernorm.weight": (width,) for norm in ("input", "post_attention")}
    header, at = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape)) * 2
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    data = json.dumps(header).encode()
    with (directory / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(data)) + data)
        file.truncate(8 + len(data) + at)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": width, "vocab_size": rows}
    config |= {"intermediate_size": inner, "num_hidden_layers": 5, "num_attention_heads": 16}
    (directory / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    with_tokenizer(directory)
    command = [sys.executable, "-c", MEASURE, str(directory), str(tmp_path / "model.gguf"), dtype]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert at > 3e8
    assert int(answer.stdout) < 130e6


def test_damage_is_found_before_an_engine_sees_it(written: Path, tmp_path: Path):
    data = written.read_bytes()
    broken = tmp_path / "broken.gguf"
    for length in [0, 3, 4, 12, 23, *range(24, len(data), len(data) // 40), len(data) - 64]:
        broken.write_bytes(data[:length])
        with pytest.raises(CheckpointError) as error:
            read_header(broken)
        assert "\n" not in str(error.value)
    huge = struct.pack("<Q", 2**62)
    for at in (8, 16, 24):  # tensors, keys, the first key's length
        broken.write_bytes(data[:at] + huge + data[at + 8 :])
        with refused("gguf-damaged"):
            read_header(broken)


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"not a model at all, but long enough to have a header", "gguf-no-file", ""),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "gguf-version", "9"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "gguf-version", str(3 << 24)),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "gguf-no-model", "general.architecture"),
    ],
)
def test_foreign_files_are_refused_in_one_line(content: bytes, code: str, said: str, tmp_path: Path):
    llamacpp = pytest.importorskip("gatenorm.engines.llamacpp.greedy")
    pytest.importorskip("xllamacpp")
    (tmp_path / "model.gguf").write_bytes(content)
    with refused(code, kind=CheckpointError) as error:
        llamacpp.LlamaCppGreedy(tmp_path / "model.gguf")
    assert said in error.value.problem
    assert "\n" not in str(error.value)


def test_keys_that_contradict_each_other_are_an_error_in_one_line(written: Path, tmp_path: Path):
    """A key that promises one more layer than there is."""
    llamacpp = pytest.importorskip("gatenorm.engines.llamacpp.greedy")
    pytest.importorskip("xllamacpp")
    data = bytearray(written.read_bytes())
    at = data.index(b"deci.block_count") + len("deci.block_count") + 4
    data[at] += 1
    (tmp_path / "model.gguf").write_bytes(bytes(data))
    with refused("gguf-no-model", kind=CheckpointError) as error:
        llamacpp.LlamaCppGreedy(tmp_path / "model.gguf")
    for part in ("deci.feed_forward_length", "6 entries", "7 layers"):
        assert part in error.value.problem
    assert "\n" not in str(error.value)


def test_the_target_is_listed():
    assert export_form("gguf").is_file
