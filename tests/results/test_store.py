"""The store of results: what was put is found by its fingerprint; damage is as good as absence; claims are held."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatenorm.errors import OutputError, RecordError
from gatenorm.records.serialization import Value
from gatenorm.results import Fingerprint, ResultStore, cache_directory
from tests.errors import refused


class Figures(Value, frozen=True, kw_only=True):
    accuracy: float
    items: tuple[int, ...] = ()


ASKED = Fingerprint.of({"task": "a"}, {"model": "sha"})
RESULT = Figures(accuracy=0.5, items=(1, 2))


def test_a_result_is_found_by_all_that_it_follows_from(tmp_path: Path):
    store = ResultStore(tmp_path / "results")
    assert store.get(ASKED, Figures) is None
    store.put(ASKED, RESULT)
    assert ResultStore(tmp_path / "results").get(ASKED, Figures) == RESULT
    assert store.get(ASKED.asking(limit=1), Figures) is None
    assert store.get(Fingerprint.of({"task": "a"}, {"model": "other"}), Figures) is None
    store.forget(ASKED)
    store.forget(ASKED)
    assert store.get(ASKED, Figures) is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema": "gatenorm/result/9"}', "[" * 100_000, "\udcff"])
def test_a_damaged_file_is_as_good_as_none(content: str, tmp_path: Path):
    store = ResultStore(tmp_path)
    store.put(ASKED, RESULT)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert store.get(ASKED, Figures) is None
    store.put(ASKED, {"accuracy": "high"})
    assert store.get(ASKED, Figures) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept["result"].update(accuracy=0.6),
        lambda kept: kept["result"].update(accuracy=None),
        lambda kept: kept["result"].pop("accuracy"),
        lambda kept: kept.update(result=[]),
        lambda kept: kept.pop("sha256"),
        lambda kept: kept["fingerprint"]["models"].update(model="another"),
    ],
)
def test_a_result_that_somebody_edited_is_as_good_as_none(change: Callable[[Any], Any], tmp_path: Path):
    store = ResultStore(tmp_path)
    store.put(ASKED, RESULT)
    (file,) = tmp_path.iterdir()
    kept = json.loads(file.read_text())
    change(kept)
    file.write_text(json.dumps(kept))
    assert store.get(ASKED, Figures) is None


def test_a_directory_holds_results_of_one_kind_only(tmp_path: Path):
    store = ResultStore(tmp_path / "new")
    store.claim("study", ASKED, "out")
    store.claim("study", ASKED, "out")
    store.claim("curve", ASKED.asking(rank=8), "state")
    with refused("results-differ", "out", OutputError) as error:
        store.claim("study", ASKED.asking(rank=8), "out")
    assert error.value.given == tmp_path / "new"
    assert "(rank None," in error.value.problem
    (tmp_path / "new/claims.json").write_text("{}")
    with refused("schema-unknown", kind=RecordError):
        store.claim("study", ASKED, "out")


def test_what_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as error:
        ResultStore(tmp_path / "file/results").put(ASKED, RESULT)
    assert error.value.code == "out-unwritable"


def test_where_results_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("GATENORM_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
    assert ResultStore().directory == tmp_path / "results"
    monkeypatch.delenv("GATENORM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_directory() == tmp_path / "x/gatenorm"
