"""llama.cpp itself on tiny files: what is timed there, and that its cache falls by exactly the share removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

import json

import gatenorm
from gatenorm.engines import Case, Setting, engine_named
from gatenorm.engines.llamacpp import timed as llamacpp
from gatenorm.errors import CheckpointError
from gatenorm.exports.registry import Variant
from gatenorm.records import Edits, to_json
from gatenorm.speed.measure.bench import Protocol, bench
from tests.errors import refused
from tests.speed import gguf_files


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
    assert (dense.edits.attention, pruned.edits.attention) == ((), (2,))
    assert (pruned.form, pruned.context, pruned.identity.layers) == ("gguf", 512, 4)
    assert pruned.identity.config_sha256 != dense.identity.config_sha256


def test_the_cache_falls_by_exactly_the_share_removed(files: tuple[Variant, Variant], monkeypatch: pytest.MonkeyPatch):
    # On models as small as these a busy machine can take longer for less; how long it took is not the question here.
    monkeypatch.setattr(llamacpp, "_ATTEMPTS", 1000)
    dense, pruned = files
    setting = Setting((Case(100, 1, 4), Case(40, 2, 4)), threads=1)
    found = bench(
        [pruned],
        engine_named("llamacpp"),
        setting,
        Protocol(rounds=2),
        baseline=dense,
        open_session=lambda variant: llamacpp.LlamaCppTimed(variant.path, setting),
    )
    assert [e.skipped for e in found] == [None] * 4
    a_token = 2 * gguf_files.KV_HEADS * gguf_files.HEAD_DIM * 2
    for evidence, tokens in zip(found, (100, 100, 80, 80), strict=True):
        layers = gguf_files.LAYERS - len(evidence.edits.attention)
        assert evidence.cache_bytes == a_token * layers * tokens
    assert found[1].cache_share_removed == found[3].cache_share_removed == 0.25
    assert found[1].prefill.ideal is None
    assert found[0].versions["xllamacpp"]


def test_files_are_timed_by_the_engine_that_reads_them(files: tuple[Variant, Variant]):
    dense, pruned = files
    found = gatenorm.bench([pruned.path], dense.path, lengths=[40], new_tokens=4, rounds=1)
    assert {one.protocol.engine for one in found} == {"llamacpp"}


def test_no_engine_reads_files_and_directories(files: tuple[Variant, Variant], tiny_models: Callable[..., Path]):
    with refused("forms-mixed"):
        gatenorm.bench([files[0].path], tiny_models("llama-gqa"))


def test_what_is_no_gguf_file_is_one_line(tmp_path: Path):
    path = tmp_path / "text.gguf"
    path.write_text("nothing of the kind, and long enough to be looked at")
    with refused("gguf-no-file", kind=CheckpointError):
        Variant.exported(path)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("deci.block_count", [4, 4, 4, 4], "gguf-no-model"),
        ("deci.context_length", "long", "gguf-no-model"),
        ("deci.attention.head_count_kv", [2, 2], "gguf-no-model"),
        ("gatenorm.edits", 3, "gguf-edits-unreadable"),
        ("gatenorm.edits", "[5]", "gguf-edits-unreadable"),
        ("gatenorm.edits", "[", "gguf-edits-unreadable"),
    ],
)
def test_keys_of_another_kind_are_one_line(tmp_path: Path, key: str, value: Any, code: str):
    def more(writer: Any) -> None:
        for name, given in ({key: value}).items():
            writer.kv_data[0].pop(name, None)
            if isinstance(given, list):
                writer.add_array(name, given)
            else:
                (writer.add_string if isinstance(given, str) else writer.add_uint32)(name, given)

    with refused(code) as raised:
        Variant.exported(gguf_files.write(tmp_path / "odd.gguf", more=more))
    assert f" {key} " in raised.value.problem
    assert "\n" not in str(raised.value)


def test_blocks_that_are_not_in_the_file_count_as_layers(tmp_path: Path):
    edits = Edits.of("block", [1])
    found = Variant.exported(
        gguf_files.write(
            tmp_path / "five.gguf",
            more=lambda writer: writer.add_string("gatenorm.edits", json.dumps(to_json(edits))),
        )
    )
    assert found is not None
    assert (found.identity.layers, found.edits) == (gguf_files.LAYERS + 1, edits)


def test_a_file_that_says_no_key_heads_has_as_many_as_queries(tmp_path: Path):
    def more(writer: Any) -> None:
        for name in ("head_count_kv", "key_length"):
            del writer.kv_data[0][f"deci.attention.{name}"]

    path = gguf_files.write(tmp_path / "plain.gguf", drop=(2,), more=more)
    found = Variant.exported(path)
    assert found is not None
    assert found.edits.attention == (2,)
    assert llamacpp._read(path) == (gguf_files.WORDS, 2 * gguf_files.HEAD_DIM * gguf_files.HEADS * 3)
