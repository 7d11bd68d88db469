"""A model that changes while something is made of it: nothing is believed, and nothing kept as the first one's."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gatenorm
from gatenorm.audit.main import run_audit
from gatenorm.audit.run.executors import LocalExecutor
from gatenorm.checkpoint import open_store
from gatenorm.checkpoint.companions import INDEX, SINGLE
from gatenorm.demo.corpus import stories
from gatenorm.demo.package import MODEL
from gatenorm.evaluation.core.runner import run
from gatenorm.records.recovery_settings import Settings
from gatenorm.recovery import recovering
from gatenorm.results import ResultStore
from gatenorm.results.hashes import file_sha256
from tests.audit.audits import small
from tests.errors import refused
from tests.evaluation.test_running import Counting, of


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return shutil.copytree(MODEL.checked_directory(), tmp_path / "model")


def change(path: Path, *, size: int = 4) -> None:
    """Other bytes at the end, and another time."""
    with path.open("r+b") as file:
        file.seek(-size, os.SEEK_END)
        file.write(b"\1" * size)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def changing(path: Path, function: Callable[..., Any]) -> Callable[..., Any]:
    """That function, at whose end the file changes."""

    def changed(*given: Any, **how: Any) -> Any:
        found = function(*given, **how)
        change(path)
        return found

    return changed


def changing_at_the_end(path: Path) -> Callable[[int, int], None]:
    """A progress bar, at whose end the file changes."""

    def progress(done: int, total: int) -> None:
        if done == total:
            change(path)

    return progress


@pytest.mark.parametrize("name", ["weights.safetensors", INDEX])
def test_scores(name: str, model: Path):
    """The index too, which nobody opens again afterwards."""
    names = dict.fromkeys(open_store(model).specs, "weights.safetensors")
    (model / SINGLE).rename(model / "weights.safetensors")
    (model / INDEX).write_text(json.dumps({"weight_map": names}) + " " * 8)
    with refused("file-changed"):
        gatenorm.score(model, progress=changing_at_the_end(model / name))


@pytest.mark.parametrize("to", ["gguf", "nemotron-nas"])
def test_exports(to: str, model: Path, tmp_path: Path):
    with refused("file-changed"):
        gatenorm.export(model, to, tmp_path / "out.gguf", progress=changing_at_the_end(model / SINGLE))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("out", ["converted", "pruned.gguf"])
def test_files(out: str, model: Path, tmp_path: Path):
    file = tmp_path / "model.gguf"
    gatenorm.export(model, "gguf", file)
    plan, progress = gatenorm.plan(file, drop=[1]), changing_at_the_end(file)
    with refused("file-changed"):
        if out == "converted":
            gatenorm.convert(file, tmp_path / out, progress=progress)
        else:
            gatenorm.prune(file, tmp_path / out, plan, progress=progress)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model.gguf"}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_evaluations(name: str, model: Path, tmp_path: Path):
    kept, counting = ResultStore(tmp_path / "kept"), Counting()
    job = replace(counting.job, run=changing(model / name, counting))
    with refused("file-changed"):
        run([job], of(model), cache=kept)
    assert not kept.directory.exists()


def test_curves(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from gatenorm.analysis import curve

    text = tmp_path / "stories.txt"
    text.write_text(stories(4).content)
    monkeypatch.setattr(curve, "SharedPrefix", lambda *_: changing(model / "model.safetensors", lambda sets: (1.0,)))
    with refused("file-changed"):
        gatenorm.curve(model, ["gate-norm"], str(text), counts=[1], seeds=1, state=tmp_path / "state")
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["claims.json"]


@pytest.mark.parametrize("whose", ["pruned", "model"])
def test_recoveries(whose: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pruned = gatenorm.prune(model, tmp_path / "pruned", gatenorm.plan(model, drop=[1]))
    load = changing(tmp_path / whose / "model.safetensors", recovering.load_student)
    monkeypatch.setattr(recovering, "load_student", load)
    settings = Settings(steps=2, batch=1, length=16, rank=2, watch_windows=1)
    with refused("file-changed"):
        gatenorm.recover(pruned, tmp_path / "out", "demo", settings=settings, parent=model)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "pruned"}


def test_audits(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    work = LocalExecutor.run

    def run_and_change(self: LocalExecutor, jobs: Iterable[Any]) -> Iterator[Any]:
        for job, result in work(self, jobs):
            change(model / "model.safetensors")
            yield job, result

    monkeypatch.setattr(LocalExecutor, "run", run_and_change)
    with refused("file-changed"):
        run_audit(model, tmp_path / "audit", small())
    assert not list((tmp_path / "audit/state").glob("measured/*"))


def test_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file that became another one while it was read, and then again what it was, is read again."""
    monkeypatch.setenv("GATENORM_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "file"
    file.write_bytes(bytes(10))
    before, right = file.stat(), file_sha256(shutil.copyfile(file, tmp_path / "same"))
    file.write_bytes(b"other bytes")
    os.truncate(file, 10)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_sha256(file, lambda done, total: change(file)) != right
    file.write_bytes(bytes(10))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_sha256(file) == right
