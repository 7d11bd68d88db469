"""The model in the package: whole, servable, unpacked whole, and damage said in one line."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gatenorm import open_model, score
from gatenorm.cli import main
from gatenorm.demo import package
from gatenorm.demo.package import MODEL
from gatenorm.demo.tinyworld import CONTEXT
from gatenorm.errors import CheckpointError, OutputError
from tests.demo.rows import train_tokenizer
from tests.errors import refused


def test_the_model_is_what_every_engine_can_serve():
    config = json.loads((MODEL.checked_directory() / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("llama", ["LlamaForCausalLM"])
    assert config["num_hidden_layers"] >= 16
    assert config["head_dim"] in (32, 64)
    assert config["hidden_size"] == config["num_attention_heads"] * config["head_dim"]
    assert config["num_key_value_heads"] < config["num_attention_heads"]
    assert config["intermediate_size"] % 256 == 0
    assert config["max_position_embeddings"] >= CONTEXT
    assert config["vocab_size"] <= 1024
    assert config["dtype"] == "bfloat16"
    layout = open_model("demo")
    assert {t.dtype for t in layout.checkpoint.specs.values()} == {"BF16"}
    assert layout.identity().name == "demo"
    assert sum(p.stat().st_size for p in MODEL.checked_directory().iterdir()) < 16e6


def test_the_tokenizer_is_the_one_that_the_corpus_gives():
    from transformers import AutoTokenizer

    packaged = AutoTokenizer.from_pretrained(MODEL.checked_directory())
    made = train_tokenizer()
    assert packaged.get_vocab() == made.get_vocab()
    described = json.loads((MODEL.checked_directory() / "tokenizer.json").read_text())
    assert described["model"]["type"] == "BPE"
    assert described["pre_tokenizer"]["type"] == "ByteLevel"
    assert packaged.decode(packaged("First came Anna Fox.")["input_ids"]) == "First came Anna Fox."


def test_the_card_is_written_from_what_was_measured():
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    found = importlib.util.spec_from_file_location("describe", scripts / "describe_demo_model.py")
    assert found is not None
    assert found.loader is not None
    describe = importlib.util.module_from_spec(found)
    found.loader.exec_module(describe)
    read = [json.loads((MODEL.checked_directory() / name).read_text()) for name in ("measured.json", "training.json")]
    attempts = json.loads((scripts / "demo_attempts.json").read_text())
    assert (MODEL.checked_directory() / "README.md").read_text() == describe.card(*read, attempts)


def test_demo_is_a_model_for_the_interface():
    scores = score("demo")
    assert len(scores.layers) == 16
    assert scores.model.name == "demo"


def test_it_is_unpacked_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "tiny"
    assert main(["demo", "--write", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in MODEL.checked_directory().iterdir())
    package.check(out)
    assert main(["demo", "--write", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err
    with pytest.raises(OutputError):
        MODEL.unpack(out)
    assert main(["demo"]) == 0
    assert "whole by its checksums" in capsys.readouterr().out


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the packaged model that stands in for it."""
    directory = shutil.copytree(MODEL.checked_directory(), tmp_path / "installed" / "demo")
    monkeypatch.setattr(package, "MODEL", replace(MODEL, directory=directory))
    return directory


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "README.md"])
def test_a_damaged_file_is_named_with_its_checksum(name: str, copy: Path):
    sound = hashlib.sha256((copy / name).read_bytes()).hexdigest()[:16]
    flip(copy / name)
    with refused("demo-damaged", kind=CheckpointError) as caught:
        package.MODEL.checked_directory()
    assert str(copy / name) in caught.value.problem
    assert hashlib.sha256((copy / name).read_bytes()).hexdigest()[:16] in caught.value.problem
    assert caught.value.expected == sound


@pytest.mark.parametrize("spoil", ["cut", "gone", "no sums", "empty sums", "nonsense"])
def test_every_damage_is_one_line(spoil: str, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    weights, sums = copy / "model.safetensors", copy / package.CHECKSUMS
    if spoil == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif spoil == "gone":
        weights.unlink()
    elif spoil == "no sums":
        sums.unlink()
    else:
        sums.write_text("" if spoil == "empty sums" else "nonsense\n")
    for arguments in (["score", "demo"], ["eval", "demo"], ["demo"], ["demo", "--write", str(tmp_path / "out")]):
        assert main(arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("error: the built-in model")
        assert said.err.count("\n") == 1
        assert "install gatenorm again" in said.err
    assert not (tmp_path / "out").exists()
