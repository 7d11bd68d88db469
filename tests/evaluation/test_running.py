"""The runner and the cache: nothing is measured twice, nothing finished is lost, nothing stale is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatenorm import api
from gatenorm.evaluation.core.job import Job
from gatenorm.evaluation.core.runner import Finished, check_same_tokenizer, run
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records import to_json
from gatenorm.records.evidence import Data, Evidence, Figure, Harness, PairedEvidence, TaskItem
from gatenorm.results import ResultStore, fingerprint
from tests.errors import refused
from tests.evaluation.subjects import tiny
from tests.tiny_models import build

TinyModels = Callable[..., Path]


class Counting:
    """A job that counts its runs, and may fail."""

    def __init__(self, name: str = "a", fails: type[BaseException] | None = None):
        self.runs: list[str] = []
        self.fails = fails
        self.job = Job("counting", name, "items", {"task": name}, self)

    def __call__(self, subject: Model, progress: Progress | None) -> Harness:
        if self.fails:
            raise self.fails
        self.runs.append(subject.name)
        answers = (1.0, float(len(self.runs) % 2))
        items = tuple(TaskItem(id=n, metrics={"acc": right}) for n, right in enumerate(answers))
        metrics = {"x": Figure(value=1.5)}
        return Harness(name="t", metrics=metrics, count=2, data=Data(sha256="d"), seconds=0.1, items=items)


def of(path: Path, **options: object) -> Model:
    return Model.of_layout(api.open_model(path), **options)  # type: ignore[arg-type]


def test_a_second_call_measures_nothing(tiny_models: TinyModels, tmp_path: Path):
    kept, counting = ResultStore(tmp_path), Counting()
    first = run([counting.job], of(tiny_models("gpt2")), cache=kept)
    again = run([counting.job], of(tiny_models("gpt2")), cache=kept)
    assert len(counting.runs) == 1
    assert [f.cached for f in first + again] == [False, True]
    assert first[0].evidence == again[0].evidence
    run([counting.job], of(tiny_models("gpt2")), cache=None)
    assert len(counting.runs) == 2


def test_what_decides_a_result_decides_its_key(
    tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept, counting = ResultStore(tmp_path), Counting()
    copied = tmp_path / "copy"
    shutil.copytree(tiny_models("gpt2"), copied)
    run([counting.job], of(copied), cache=kept)
    for subject, runs in [
        (of(tiny_models("gpt2")), 1),  # the same content elsewhere
        (of(copied, dtype="bfloat16"), 2),
        (of(tiny_models("llama-gqa")), 3),
    ]:
        run([counting.job], subject, cache=kept)
        assert len(counting.runs) == runs
    # One byte of a weight, far from any sample of the file.
    weights = copied / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)
    run([counting.job], of(copied), cache=kept)
    assert len(counting.runs) == 4
    (copied / "tokenizer_config.json").write_text("{}")
    run([counting.job], of(copied), cache=kept)
    assert len(counting.runs) == 5
    monkeypatch.setattr(fingerprint, "code_sha256", lambda: "other code")
    run([counting.job], of(copied), cache=kept)
    assert len(counting.runs) == 6


def test_finished_results_of_an_interrupted_run_are_kept(tiny_models: TinyModels, tmp_path: Path):
    kept, good, bad = ResultStore(tmp_path), Counting("good"), Counting("bad", KeyboardInterrupt)
    seen: list[Finished] = []
    with pytest.raises(KeyboardInterrupt):
        run([good.job, bad.job], of(tiny_models("gpt2")), cache=kept, finished=seen.append)
    assert len(seen) == 1
    bad.fails = None
    found = run([good.job, bad.job], of(tiny_models("gpt2")), cache=kept)
    assert [f.cached for f in found] == [True, False]
    assert len(good.runs) == 1


def test_a_damaged_or_forbidden_cache_is_as_good_as_none(tiny_models: TinyModels, tmp_path: Path):
    kept, counting = ResultStore(tmp_path / "c"), Counting()
    run([counting.job], of(tiny_models("gpt2")), cache=kept)
    (file,) = (tmp_path / "c").iterdir()
    for content in ("", "[]", '{"schema": "gatenorm/evidence/9"}'):
        file.write_text(content)
        assert not run([counting.job], of(tiny_models("gpt2")), cache=kept)[0].cached
    (tmp_path / "file").write_text("")
    blocked = ResultStore(tmp_path / "file/cache")
    assert run([counting.job], of(tiny_models("gpt2")), cache=blocked)[0].evidence.metrics == {"x": Figure(value=1.5)}


def test_a_record_out_of_the_cache_has_todays_name(tiny_models: TinyModels, tmp_path: Path):
    kept, counting = ResultStore(tmp_path), Counting()
    run([counting.job], of(tiny_models("gpt2")), cache=kept)
    renamed = tmp_path / "renamed"
    shutil.copytree(tiny_models("gpt2"), renamed)
    (found,) = run([counting.job], of(renamed), cache=kept)
    assert found.cached
    assert found.evidence.model.name == "renamed"


def test_a_live_model_is_measured_each_time(tmp_path: Path):
    kept, counting = ResultStore(tmp_path), Counting()
    for _ in range(2):
        (found,) = run([counting.job], tiny("gpt2"), cache=kept)
        assert not found.cached
    assert len(counting.runs) == 2


def test_the_baseline_comes_first_and_what_changed_last(tiny_models: TinyModels):
    counting = Counting()
    found = run([counting.job], of(tiny_models("gpt2")), of(tiny_models("opt")))
    assert [f.evidence.kind for f in found] == ["harness", "harness", "comparison"]
    assert len(counting.runs) == 2
    assert found[2].evidence.numbers()["acc_difference"] == -0.5
    assert json.loads(json.dumps(to_json(found[2].evidence)))["items"][0]["id"] == 1


class Apart(PairedEvidence, frozen=True, kw_only=True, tag="test/apart/1"):
    """What an evaluation of another package that compares two models may give."""

    edits_apart: int


def test_a_comparing_record_out_of_the_cache_names_todays_models(tiny_models: TinyModels, tmp_path: Path):
    kept = ResultStore(tmp_path / "cache")
    job = Job("apart", "apart", "models", {}, compare=lambda model, baseline, progress: Apart(edits_apart=0))
    demo, renamed = api.open_model("demo").checkpoint.directory, tmp_path / "renamed"
    shutil.copytree(demo, renamed)
    for baseline, cached in ((demo, False), (renamed, True)):
        (found,) = run([job], of(demo), of(baseline), cache=kept)
        assert isinstance(found.evidence, Apart)
        names = found.evidence.model.name, found.evidence.baseline.name
        assert (found.cached, *names) == (cached, demo.name, baseline.name)


def test_what_compares_must_have_a_place_for_its_baseline():
    wrong: Any = Harness(name="t", metrics={}, count=0)
    job, demo = Job("apart", "apart", "models", {}, compare=lambda *_: wrong), api.open_model("demo")
    with refused("extension-wrong"):
        run([job], Model.of_layout(demo), Model.of_layout(demo))


def test_models_are_loaded_once_and_only_when_needed(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch):
    loads: list[Path] = []
    from gatenorm.models import loading as runtime

    real = runtime.load
    monkeypatch.setattr(runtime, "load_tokenizer", lambda _: None)
    monkeypatch.setattr(runtime, "load", lambda directory, **o: loads.append(directory) or real(directory, **o))

    def touch(subject: Model, progress: Progress | None) -> Evidence:
        assert subject.module is not None
        return Harness(name="touch", metrics={}, count=0)

    subject = of(tiny_models("gpt2"))
    assert loads == []
    run([Job("touch", str(n), "x", {"n": n}, touch) for n in range(3)], subject)
    assert len(loads) == 1


def test_unknown_devices_are_refused_before_loading(tiny_models: TinyModels):
    with refused("device-unusable", "device"):
        of(tiny_models("gpt2"), device="nowhere").check_hardware()
    with refused("dtype-unknown", "dtype"):
        of(tiny_models("gpt2"), dtype="int3").check_hardware()


def test_different_tokenizers_are_refused():
    first, second = Model.of_layout(api.open_model("demo")), Model.of_module(build("llama-gqa"), Words())
    check_same_tokenizer(first, Model.of_layout(api.open_model("demo")))
    with refused("tokenizers-differ"):
        check_same_tokenizer(second, first)


class Words:
    """A tokenizer of two words."""

    def get_vocab(self) -> dict[str, int]:
        return {"yes": 0, "no": 1}
