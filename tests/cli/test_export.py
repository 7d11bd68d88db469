"""`export` and `verify` as a person meets them: what is written, what is refused, and with which exit status."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import gatenorm
from gatenorm.cli import main
from gatenorm.demo.package import MODEL
from gatenorm.exports.registry import export_forms
from tests.command_line import refused

TinyModels = Callable[..., Path]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo-3"
    return gatenorm.prune("demo", out, gatenorm.plan("demo", drop=[5, 9, 15])).path


def test_from_the_pruned_model_to_a_verified_file(pruned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "demo.gguf"
    status, said, err = run(capsys, "export", pruned, "--to", "gguf", "-o", out, "--dtype", "f32")
    assert (status, err) == (0, "")
    assert f"gatenorm verify {out} --against {pruned}" in said
    status, said, err = run(capsys, "verify", out, "--against", pruned, "--tokens", 24)
    assert (status, err) == (0, "")
    assert "in llamacpp against demo-3" in said
    assert "3 of 3 texts cut as the reference cuts them" in said
    assert "the same\nThe file is right. What its edits (" in said


def test_a_file_of_another_model_is_different(pruned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "other.gguf"
    assert run(capsys, "export", "demo", "--to", "gguf", "-o", out)[0] == 0
    status, said, err = run(capsys, "verify", out, "--against", pruned, "--tokens", 8, "--json", tmp_path / "v.json")
    assert status == 1
    assert err.startswith("warning: log-probabilities differ by up to")
    assert said.rstrip().endswith("DIFFERENT")
    record = json.loads((tmp_path / "v.json").read_text())
    assert record["schema"] == "gatenorm/verify/1"
    assert record["faults"]


def test_a_swapped_tensor_is_found_in_llamacpp(pruned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    other, out = tmp_path / "other", tmp_path / "other.gguf"
    shutil.copytree(pruned, other)
    tensors = load_file(other / "model.safetensors")
    first, second = (f"model.layers.2.mlp.{name}_proj.weight" for name in ("gate", "up"))
    tensors[first], tensors[second] = tensors[second].clone(), tensors[first].clone()
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    assert run(capsys, "export", other, "--to", "gguf", "-o", out)[0] == 0
    assert run(capsys, "verify", out, "--against", other, "--tokens", 8)[0] == 0
    status, _, err = run(capsys, "verify", out, "--against", pruned, "--tokens", 8)
    assert status == 1
    assert "log-probabilities differ" in err


def test_the_list_gives_a_reason_for_every_no(tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]):
    status, out, _ = run(capsys, "export", "--list", tiny_models("gemma2"), "--json", "-")
    assert status == 0
    facts = {fact["to"]: fact for fact in json.loads(out)}
    assert set(facts) == {"gguf", "nemotron-nas"}
    for fact in facts.values():
        assert not fact["can"]
        assert any("sandwich" in reason for reason in fact["why_not"])
        assert any("gelu" in reason for reason in fact["why_not"])
    status, out, _ = run(capsys, "export", "--list", "demo")
    assert status == 0
    assert "yes" in out


def test_bad_input_is_one_line(
    pruned: Path, tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").write_text("mine")
    cut = tmp_path / "cut.gguf"
    assert run(capsys, "export", pruned, "--to", "gguf", "-o", tmp_path / "whole.gguf")[0] == 0
    whole = (tmp_path / "whole.gguf").read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    absurd = tmp_path / "absurd.gguf"
    key = b"deci.block_count" + (4).to_bytes(4, "little")
    absurd.write_bytes(whole.replace(key + (16).to_bytes(4, "little"), key + (22784).to_bytes(4, "little")))
    granite = tmp_path / "granite"
    shutil.copytree(tiny_models("llama-gqa"), granite)
    config = json.loads((granite / "config.json").read_text())
    (granite / "config.json").write_text(json.dumps(config | {"model_type": "granite", "architectures": None}))
    noise = tmp_path / "noise.gguf"
    noise.write_bytes(b"GGUF" + bytes(range(256)))
    for arguments, message in (
        (("export", pruned, "--to", "gguff", "-o", tmp_path / "x"), "to-unknown to"),
        (("export", pruned, "--to", "gguf", "-o", taken / "file"), "out-taken out"),
        (("export", pruned, "--to", "nemotron-nas", "-o", taken), "out-taken out"),
        (("export", pruned, "--to", "gguf"), "out-missing out"),
        (("export", pruned, "-o", tmp_path / "x"), "form-missing to"),
        (("export", pruned, "--list", "--to", "gguf"), "option-unused to"),
        (("export", pruned, "--to", "gguf", "-o", tmp_path / "x", "--dtype", "q8"), "dtype-unknown dtype"),
        (("export", tiny_models("qwen3"), "--to", "gguf", "-o", tmp_path / "x"), "not-exportable"),
        (("export", tiny_models("gpt2"), "--to", "nemotron-nas", "-o", tmp_path / "x"), "not-exportable"),
        (("verify", absurd, "--against", pruned), "gguf-no-model"),
        (("verify", pruned, "--against", pruned, "--seed", -1), "option-value seed"),
        (("verify", pruned, "--against", pruned, "--tolerance", "inf"), "tolerance-out-of-range tolerance"),
        (("export", granite, "--family", "llama", "--to", "gguf", "-o", tmp_path / "x"), "family-differs family"),
        (("verify", cut, "--against", pruned), "gguf-damaged"),
        (("verify", noise, "--against", pruned), "gguf-version"),
        (("verify", tmp_path / "none.gguf", "--against", pruned), "does not exist"),
        (("verify", pruned, "--against", pruned, "--engine", "lama"), "engine-unknown engine"),
        (("verify", pruned, "--against", pruned, "--tokens", 100000), "tokens-too-many tokens"),
    ):
        refused(capsys, message, *arguments)
    assert not (tmp_path / "x").exists()
    assert (taken / "file").read_text() == "mine"
    assert MODEL.checked_directory().is_dir()


def test_whatever_would_be_left_out_stands_in_the_way(tiny_models: TinyModels, tmp_path: Path):
    """Tensors without a place, and config keys by which relatives of Llama compute otherwise."""
    source = tmp_path / "source"
    shutil.copytree(tiny_models("llama-gqa"), source)
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.bias"] = torch.ones(80)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    for target in export_forms():
        assert any("for which Llama has no place" in reason for reason in target.obstacles(gatenorm.open_model(source)))
    config = json.loads((source / "config.json").read_text())
    for change, reason in (
        ({"attention_multiplier": 0.5}, "sets attention_multiplier"),
        ({"vocab_size": 100}, "vocab_size 100"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps"),
    ):
        (source / "config.json").write_text(json.dumps(config | change))
        for target in export_forms():
            assert any(reason in given for given in target.obstacles(gatenorm.open_model(source)))
