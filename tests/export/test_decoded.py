"""`convert`: a GGUF file as a directory that transformers loads, and the very model that it was made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import gatenorm
from gatenorm.api import open_model
from gatenorm.errors import OutputError
from gatenorm.exports.gguf import writer
from tests.errors import refused
from tests.export import gguf_models
from tests.families.gguf_files import write

pytest.importorskip("gguf")

TinyModels = Callable[..., Path]
_TEXT = "the quick brown fox, she's here: 1,234.5 Über Straße 你好 🙂\n"


@pytest.mark.parametrize("case", ["llama-gqa", "llama-tied", "llama-wide-heads", "qwen2", "qwen3", "gemma", "phi3"])
def test_the_directory_computes_what_the_source_does(case: str, tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models(case)
    architecture = case.split("-")[0]
    file = write(source, architecture, tmp_path / "model.gguf")
    # These tiny files name tokens and no way of cutting texts.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gatenorm.exports.decoded._write_tokenizer", lambda file, target: None)
        gatenorm.convert(file, tmp_path / "out", dtype="float32")
    tokens = torch.arange(4, 20)[None]
    with torch.inference_mode():
        own, theirs = (gatenorm.load(path, dtype=torch.float32)(tokens).logits for path in (tmp_path / "out", source))
    torch.testing.assert_close(own, theirs, atol=1e-4, rtol=1e-4)


def test_tokenizer_and_weights_come_out_of_one_file(tmp_path: Path):
    source = gguf_models.write("mistral", tmp_path / "source")
    file = tmp_path / "model.gguf"
    writer.write(open_model(source), file, dtype="q8_0")
    gatenorm.convert(file, tmp_path / "out", dtype="float32")
    own, theirs = open_model(tmp_path / "out").checkpoint, open_model(source).checkpoint
    assert {*own.specs} == {*theirs.specs}
    for name in own.specs:
        np.testing.assert_allclose(own.float32(name), theirs.float32(name), atol=0.02)
    own_words, their_words = map(transformers.AutoTokenizer.from_pretrained, (tmp_path / "out", source))
    assert own_words(_TEXT)["input_ids"] == their_words(_TEXT)["input_ids"]


def test_what_lies_beside_a_file_is_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, ran = tmp_path / "model.gguf", tmp_path / "ran"
    writer.write(open_model(gguf_models.write("mistral", tmp_path / "source")), file, dtype="q8_0")
    (tmp_path / "evil.py").write_text(
        f"open({str(ran)!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast\n"
        "class Evil(PreTrainedTokenizerFast): pass\n"
    )
    settings = {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    gatenorm.convert(file, tmp_path / "out")
    assert not ran.exists()
    assert not [*(tmp_path / "out").glob("*.py")]
    assert "auto_map" not in json.loads((tmp_path / "out/tokenizer_config.json").read_text())


def test_what_is_no_directory_of_its_family_is_refused(tiny_models: TinyModels, tmp_path: Path):
    file = write(tiny_models("llama-gqa"), "llama", tmp_path / "model.gguf")
    pruned = gatenorm.prune(file, tmp_path / "pruned.gguf", gatenorm.plan(file, drop=[1])).path
    for model in (pruned, write(tiny_models("qwen3_moe"), "qwen3moe", tmp_path / "experts.gguf")):
        with refused("not-convertible", kind=OutputError):
            gatenorm.convert(model, tmp_path / "out")
    with refused("dtype-unknown", "dtype", OutputError):
        gatenorm.convert(file, tmp_path / "out", dtype="q8_0")
    assert not (tmp_path / "out").exists()


def test_values_are_rounded_to_the_type(tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gatenorm.exports.decoded._write_tokenizer", lambda file, target: None)
    monkeypatch.setattr("gatenorm.exports.decoded._NUMBERS", 256)
    file = write(tiny_models("llama-gqa"), "llama", tmp_path / "model.gguf", "Q8_0")
    gatenorm.convert(file, tmp_path / "out")
    own, theirs = open_model(tmp_path / "out").checkpoint, open_model(file).checkpoint
    for name in own.specs:
        assert own.spec(name).dtype == "BF16"
        expected = torch.from_numpy(theirs.float32(name).copy()).bfloat16().float().numpy()
        np.testing.assert_array_equal(own.float32(name), expected)
