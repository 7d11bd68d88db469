"""llama.cpp itself on tiny files: what is timed there, and that its cache falls by exactly the share removed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

from gatenorm.benchmark.bench import Protocol, bench
from gatenorm.benchmark.engines import Setting, llamacpp, timed_engine
from gatenorm.benchmark.speed import Case
from gatenorm.benchmark.variants import Variant
from gatenorm.errors import EvaluationError
from tests.benchmark import gguf_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Variant, Variant]:
    folder = tmp_path_factory.mktemp("gguf")
    dense, pruned = gguf_files.write(folder / "dense.gguf"), gguf_files.write(folder / "pruned.gguf", drop=(2,))
    found = [Variant.exported(path) for path in (dense, pruned)]
    assert found[0] is not None
    assert found[1] is not None
    return found[0], found[1]


def test_a_file_says_what_was_removed_from_it(files: tuple[Variant, Variant]):
    dense, pruned = files
    assert (dense.removed, pruned.removed) == ((), (2,))
    assert (pruned.form, pruned.context, pruned.identity.layers) == ("gguf", 512, 4)
    assert pruned.identity.config_sha256 != dense.identity.config_sha256


def test_the_cache_falls_by_exactly_the_share_removed(files: tuple[Variant, Variant], monkeypatch: pytest.MonkeyPatch):
    # On models as small as these a busy machine can take longer for less; how long it took is not the question here.
    monkeypatch.setattr(llamacpp, "_ATTEMPTS", 1000)
    dense, pruned = files
    setting = Setting((Case(100, 1, 4), Case(40, 2, 4)), threads=1)
    found = bench(
        [pruned],
        timed_engine("llamacpp"),
        setting,
        Protocol(rounds=2),
        baseline=dense,
        open_session=lambda variant: llamacpp.LlamaCpp(variant.path, setting),
    )
    assert [e.protocol.get("skipped") for e in found] == [None] * 4
    a_token = 2 * gguf_files.KV_HEADS * gguf_files.HEAD_DIM * 2
    for evidence, tokens in zip(found, (100, 100, 80, 80), strict=True):
        layers = gguf_files.LAYERS - len(evidence.removed)
        assert evidence.figures["cache_bytes"] == a_token * layers * tokens
    assert found[1].figures["cache_share_removed"] == found[3].figures["cache_share_removed"] == 0.25
    assert "prefill_ideal" not in found[1].figures
    assert found[0].versions["xllamacpp"]


def test_what_is_no_gguf_file_is_one_line(tmp_path: Path):
    path = tmp_path / "text.gguf"
    path.write_text("nothing of the kind, and long enough to be looked at")
    with pytest.raises(EvaluationError, match="is no GGUF file of a language model that can be read"):
        Variant.exported(path)
