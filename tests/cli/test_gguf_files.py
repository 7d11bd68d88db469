"""GGUF files on the command line: a model like another, and each mistake in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import gatenorm
from gatenorm.cli import main
from gatenorm.errors import CheckpointError, EvaluationError
from gatenorm.exports.registry import Variant
from gatenorm.models.model import Model
from tests.command_line import refused
from tests.errors import refused as refuses
from tests.families.gguf_files import write

pytest.importorskip("gguf")


@pytest.fixture
def source(tiny_models: Callable[..., Path], tmp_path: Path) -> Path:
    return write(tiny_models("llama-gqa"), "llama", tmp_path / "model.gguf", "Q8_0")


def test_from_file_to_file(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "pruned.gguf"
    assert main(["score", str(source)]) == 0
    assert main(["prune", str(source), "--layers", "1", "-o", str(out)]) == 0
    quality, same, serve = capsys.readouterr().out.splitlines()[-3:]
    assert quality == f"What it costs in quality: gatenorm eval {out} --baseline {source} --data generic"
    assert same == f"Does llama.cpp compute the same? gatenorm verify {out} --against {source}"
    assert serve == f"Serve it: llama-server -m {out}"
    assert main(["inspect", str(out)]) == 0
    assert "attention removed in" in capsys.readouterr().out


def test_each_mistake_is_one_line(
    source: Path, tiny_models: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    short, empty = tmp_path / "short.gguf", tmp_path / "empty.gguf"
    short.write_bytes(source.read_bytes()[:-40])
    empty.write_bytes(b"")
    out = str(tmp_path / "out")
    for arguments, code in (
        (("score", short), "gguf-damaged"),
        (("score", empty), "gguf-no-file"),
        (("score", tmp_path / "none.gguf"), "model-missing"),
        (("score", source, "--criterion", "cosine@self"), "model-is-file"),
        (("eval", source, "--tasks", "refusal"), "engine-cannot engine"),
        (("eval", source, "--tasks", "refusal", "--engine", "transformers"), "model-is-file"),
        (("audit", source, "--quick", "-o", out), "model-is-file"),
        (("bench", source, "--engine", "transformers"), "engine-cannot-read engine"),
        (("prune", source, "--layers", "1", "-o", out), "out-of-other-form out"),
        (("prune", tiny_models("llama-gqa"), "--layers", "1", "-o", f"{out}.gguf"), "out-of-other-form out"),
        (("prune", source, "--layers", "1", "--replace", "linear", "-o", f"{out}.gguf"), "model-is-file"),
        (("export", source, "--to", "nemotron-nas", "-o", out), "not-exportable"),
        (("convert", source, "--dtype", "q8_0", "-o", out), "dtype-unknown dtype"),
    ):
        refused(capsys, code, *arguments)


def test_another_form_in_one_file_is_not_taken_for_gguf(source: Path, monkeypatch: pytest.MonkeyPatch):
    """As an extension may read one, which no engine here does."""
    layout = gatenorm.open_model(source)
    monkeypatch.setattr(layout.checkpoint, "form", "boxed", raising=False)
    assert Variant.of(layout).form == "boxed"
    with refuses("form-unread", "engine", EvaluationError):
        gatenorm.evaluate(layout, "perplexity", "generic")
    with refuses("model-is-directory", kind=CheckpointError):
        gatenorm.evaluate(layout, "perplexity", "generic", engine="llamacpp")
    with refuses("model-is-file", kind=CheckpointError):
        Model.of_layout(layout)
