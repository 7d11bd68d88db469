"""Perplexity of GGUF files in llama.cpp, beside that of the same weights in transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

import gatenorm
from gatenorm.errors import CheckpointError
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.records.evidence import Comparison, Perplexity
from tests.errors import refused
from tests.export import gguf_models

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

# Characters of several tokens, of which llama.cpp tells by another way, and the end of a text in its middle.
_TEXT = "the quick brown fox, she's here. Déjà vu 你好世界 🙂🚀 in 1999 <|end|> and so on\n" * 3
_REQUEST = TaskOptions(window=24, stride=20)


def measured(model: Path, text: Path, request: TaskOptions = _REQUEST, **options: object) -> Perplexity:
    (found,) = gatenorm.evaluate(model, "perplexity", str(text), request=request, **options)
    assert isinstance(found, Perplexity)
    return found


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text(_TEXT, encoding="utf-8")
    return file


@pytest.mark.parametrize("case", ["llama3", "qwen2"])
@pytest.mark.parametrize("removed", [[], [0, 3]])
def test_the_losses_are_those_of_the_same_weights_in_transformers(
    case: str, removed: list[int], text: Path, tmp_path: Path
):
    directory, file = gguf_models.write(case, tmp_path / "dense"), tmp_path / "model.gguf"
    if removed:
        directory = gatenorm.prune(directory, tmp_path / "pruned", gatenorm.plan(directory, drop=removed)).path
    gatenorm.export(directory, "gguf", file, dtype="f32")
    own, theirs = measured(file, text), measured(directory, text)
    assert own.data.tokens_sha256 == theirs.data.tokens_sha256
    assert (own.tokens, own.edits) == (theirs.tokens, theirs.edits)
    assert own.nll == pytest.approx(theirs.nll, abs=2e-5)
    assert own.word_perplexity == pytest.approx(theirs.word_perplexity, rel=1e-4)
    for one, other in zip(own.items, theirs.items, strict=True):
        assert one.metrics["nll"] == pytest.approx(other.metrics["nll"], abs=1e-4)
    assert (own.protocol.engine, own.protocol.dtype, theirs.protocol.engine) == ("llamacpp", "f32", "")


def test_a_pruned_file_is_compared_with_the_file_it_was_made_of(shared: Path, tmp_path: Path):
    """Real weights of 8 bits: what pruning costs in llama.cpp is what it costs in transformers."""
    text, request = tmp_path / "text.txt", TaskOptions(window=128)
    content = (shared / "data/tinystories/valid_sample.txt").read_text(encoding="utf-8")
    text.write_text(content[:1500].strip(), encoding="utf-8")
    source, decoded = tmp_path / "source.gguf", tmp_path / "decoded"
    gatenorm.export(shared / "models/stories3M", "gguf", source, dtype="q8_0")
    gatenorm.convert(source, decoded, dtype="float32")
    file = gatenorm.prune(source, tmp_path / "pruned.gguf", gatenorm.plan(source, drop=[2])).path
    directory = gatenorm.prune(decoded, tmp_path / "pruned", gatenorm.plan(decoded, drop=[2])).path

    def compared(model: Path, baseline: Path) -> tuple[Perplexity, float]:
        before, _, change = gatenorm.evaluate(model, "perplexity", str(text), baseline=baseline, request=request)
        assert isinstance(before, Perplexity)
        assert isinstance(change, Comparison)
        return before, change.changes["nll"].difference

    (own, cost), (theirs, same_cost) = compared(file, source), compared(directory, decoded)
    assert own.data.tokens_sha256 == theirs.data.tokens_sha256
    # Activations are rounded to 8 bits there and not here; what pruning costs is far above that.
    assert own.nll == pytest.approx(theirs.nll, abs=0.01)
    assert cost == pytest.approx(same_cost, abs=0.01)
    assert cost > 0.05


def test_other_tasks_and_other_types_are_refused(text: Path, tmp_path: Path):
    file = tmp_path / "model.gguf"
    gatenorm.export(gguf_models.write("llama3", tmp_path / "dense"), "gguf", file, dtype="f32")
    for code, field, tasks, options in (
        ("engine-cannot", "engine", "refusal", {}),
        ("engine-cannot", "dtype", "perplexity", {"dtype": "bfloat16"}),
        ("model-is-file", "", "perplexity", {"engine": "transformers"}),
    ):
        with refused(code, field):
            gatenorm.evaluate(file, tasks, str(text) if tasks == "perplexity" else (), **options)
    with refused("model-is-directory", kind=CheckpointError):
        gatenorm.evaluate(tmp_path / "dense", "perplexity", str(text), engine="llamacpp")
