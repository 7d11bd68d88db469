"""From a pruned directory to a recovered one, whole: what lies in it, what it says of itself, what it refuses."""

from __future__ import annotations

import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import gatenorm
from gatenorm.api.evaluating import evaluate
from gatenorm.errors import OutputError, RecoveryError
from gatenorm.models.model import Model
from gatenorm.records.evidence import Recovery, evidence_from_json
from gatenorm.records.recovery_settings import Settings
from gatenorm.recovery import recovering
from gatenorm.recovery.recovering import NothingLearnedError
from gatenorm.recovery.state import state_file
from gatenorm.results import fingerprint
from tests.errors import refused
from tests.recovery.conftest import SETTINGS, Place
from tests.results.test_fingerprint import swap_two_tokens


@pytest.fixture(scope="module")
def out(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "recovered"
    found = gatenorm.recover(place.pruned, path, str(place.text), settings=SETTINGS, parent=place.dense)
    assert (found.directory, found.already, found.record.diverged) == (path, False, None)
    assert not state_file(path).exists()
    return path


def test_the_output_is_a_pruned_checkpoint_with_the_adapters_merged(place: Place, out: Path):
    from peft import PeftModel

    layout = gatenorm.open_model(out)
    assert layout.edits.attention == (0, 2)
    assert layout.recovered
    assert (out / "gatenorm.json").read_bytes() == (place.pruned / "gatenorm.json").read_bytes()
    assert {t.dtype for t in layout.checkpoint.specs.values()} == {"BF16"}
    ids = torch.arange(5, 25)[None]
    merged = gatenorm.load(out, dtype=torch.float32)(input_ids=ids).logits
    base = gatenorm.load(place.pruned, dtype=torch.float32)
    plain = base(input_ids=ids).logits
    adapted = PeftModel.from_pretrained(base, out / "adapter").eval()(input_ids=ids).logits
    # Stored in bfloat16, as the parent was: that rounding lies between the two, and no more.
    assert (merged - adapted).abs().max() < 0.1 * (merged - plain).abs().max()
    card = (out / "README.md").read_text()
    for said in ("pruned and recovered", "0, 2", "rank 4 on attention", "stories.txt", "6 of 6"):
        assert said in card


def test_the_evidence_separates_pruned_from_recovered(place: Place, out: Path):
    record = json.loads((out / "recovery.json").read_text())
    evidence = evidence_from_json(record["evidence"])
    assert isinstance(evidence, Recovery)
    assert (evidence.kind, evidence.protocol.what, evidence.edits.attention) == (
        "recovery",
        "pruned and recovered",
        (0, 2),
    )
    assert evidence.model.recovered
    assert not place.layout.identity().recovered
    assert not evidence.model.same_weights(place.layout.identity())
    assert evidence.model.same_weights(gatenorm.open_model(out).identity())
    figures = evidence.numbers()
    assert figures["steps"] == 6
    assert figures["tokens"] == 6 * 2 * 32
    assert figures["nll_merged"] == pytest.approx(figures["nll_after"], abs=0.01)
    assert figures["nll_merged"] < figures["nll_before"]
    model = gatenorm.load(out, dtype=torch.float32)
    assert Model.of_module(model, None).identity.recovered  # type: ignore[arg-type]
    measured = evaluate(out, data=str(place.text))
    assert measured[0].model.recovered
    assert not evaluate(place.pruned, data=str(place.text))[0].model.recovered


def test_pruning_a_recovered_model_again_gives_one_that_is_not_recovered(out: Path, tmp_path: Path):
    again = gatenorm.prune(out, tmp_path / "again", gatenorm.plan(out, drop=[1])).path
    layout = gatenorm.open_model(again)
    assert layout.edits.attention == (0, 1, 2)
    assert not layout.recovered
    assert not (again / "recovery.json").exists()
    assert json.loads((again / "gatenorm.json").read_text())["model"]["recovered"] is True


def test_a_finished_one_says_so_and_another_is_refused(place: Place, out: Path):
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    again = gatenorm.recover(place.pruned, out, str(place.text), settings=SETTINGS, parent=place.dense)
    assert again.already
    assert again.evidence.steps == 6
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    with refused("results-differ", "out", OutputError) as caught:
        gatenorm.recover(place.pruned, out, str(place.text), steps=7, settings=SETTINGS, parent=place.dense)
    assert caught.value.given == out
    assert "(steps 6," in caught.value.problem


def test_a_killed_one_goes_on_to_the_same_files(place: Place, out: Path, tmp_path: Path):
    def killed(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    how = {"settings": SETTINGS, "parent": place.dense}
    with pytest.raises(KeyboardInterrupt):
        gatenorm.recover(place.pruned, tmp_path / "r", str(place.text), progress=killed, **how)
    assert [p.name for p in tmp_path.iterdir()] == ["r.recovery-state"]
    with refused("results-differ", kind=OutputError) as caught:
        gatenorm.recover(
            place.pruned, tmp_path / "r", str(place.text), settings=replace(SETTINGS, seed=1), parent=place.dense
        )
    assert str(tmp_path / "r.recovery-state") in caught.value.problem
    assert "(seed 0," in caught.value.problem
    gatenorm.recover(place.pruned, tmp_path / "r", str(place.text), **how)
    for name in ("model.safetensors", "adapter/adapter_model.safetensors", "config.json"):
        assert (tmp_path / "r" / name).read_bytes() == (out / name).read_bytes(), name
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_distillation_learns_from_the_parent(place: Place, tmp_path: Path):
    settings = replace(SETTINGS, objective="distill", targets=("attention", "mlp"))
    found = gatenorm.recover(place.pruned, tmp_path / "d", "demo", settings=settings, parent=place.dense)
    assert found.evidence.protocol.settings.objective == "distill"
    assert found.evidence.protocol.parent is not None
    assert found.evidence.protocol.parent.name == "dense"
    assert found.evidence.data.held_out.windows == 4


def test_a_state_of_another_tokenizer_or_of_other_software_is_refused(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def killed(done: int, total: int) -> None:
        raise KeyboardInterrupt

    pruned, out, text = shutil.copytree(place.pruned, tmp_path / "pruned"), tmp_path / "r", str(place.text)
    with pytest.raises(KeyboardInterrupt):
        gatenorm.recover(pruned, out, text, progress=killed, settings=SETTINGS)
    told, changed = fingerprint.versions, {"peft": "0.1"}
    monkeypatch.setattr(fingerprint, "versions", lambda packages: told(packages) | changed)
    with refused("results-differ", kind=OutputError) as caught:
        gatenorm.recover(pruned, out, text, settings=SETTINGS)
    assert "(software.peft " in caught.value.problem
    changed.clear()
    swap_two_tokens(pruned)
    with refused("results-differ", kind=OutputError) as caught:
        gatenorm.recover(pruned, out, text, settings=SETTINGS)
    assert "(model " in caught.value.problem
    # Of the same content elsewhere it is gone on with.
    gatenorm.recover(place.pruned, out, text, settings=SETTINGS)
    changed["torch"] = "1.0"
    with refused("results-differ", "out", OutputError) as caught:
        gatenorm.recover(place.pruned, out, text, settings=SETTINGS)
    assert "(software.torch " in caught.value.problem


def test_one_model_is_in_memory_while_the_merged_one_is_checked(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trained: list[weakref.ref[torch.nn.Module]] = []
    alive: list[bool] = []
    make, load = recovering.merging.with_adapters, recovering.load_frozen

    def noted(*arguments: Any, **options: Any) -> Any:
        made = make(*arguments, **options)
        trained.extend(weakref.ref(module) for module in (made, made.get_base_model()))
        return made

    def loading(directory: Path, *arguments: Any) -> Any:
        if directory != place.pruned:
            alive.extend(model() is not None for model in trained)
        return load(directory, *arguments)

    monkeypatch.setattr(recovering.merging, "with_adapters", noted)
    monkeypatch.setattr(recovering, "load_frozen", loading)
    gatenorm.recover(place.pruned, tmp_path / "r", str(place.text), settings=replace(SETTINGS, steps=2))
    assert alive == [False, False]


@pytest.mark.parametrize(
    ("settings", "diverged"),
    [
        (replace(SETTINGS, steps=1, learning_rate=1e30), True),
        (replace(SETTINGS, steps=3, learning_rate=1e-30), False),
    ],
)
def test_what_learned_nothing_is_not_called_recovered(settings: Settings, diverged: bool, place: Place, tmp_path: Path):
    with refused("not-better", kind=NothingLearnedError) as caught:
        gatenorm.recover(place.pruned, tmp_path / "r", str(place.text), settings=settings)
    assert isinstance(caught.value, NothingLearnedError)
    assert (caught.value.steps, bool(caught.value.diverged)) == (settings.steps, diverged)
    assert str(caught.value.diverged or "") in caught.value.problem
    assert list(tmp_path.iterdir()) == []
    # Other settings find nothing in their way.
    gatenorm.recover(place.pruned, tmp_path / "r", str(place.text), settings=replace(SETTINGS, steps=2))


def test_bad_input_is_refused_before_anything_is_written(place: Place, tmp_path: Path):
    text, short = str(place.text), tmp_path / "short.txt"
    short.write_text("One two three.")
    other = shutil.copytree(place.dense, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    wrong = [
        (place.dense, text, SETTINGS, None, "not-pruned", ""),
        (place.pruned, str(short), SETTINGS, None, "text-too-short", "data"),
        (place.pruned, text, replace(SETTINGS, objective="distill"), None, "parent-missing", "parent"),
        (place.pruned, text, SETTINGS, place.pruned, "parent-pruned", "parent"),
        (place.pruned, text, replace(SETTINGS, length=600), None, "length-too-long", "length"),
    ]
    assert config["vocab_size"] == 602
    for model, data, settings, parent, code, field in wrong:
        with refused(code, field, RecoveryError):
            gatenorm.recover(model, tmp_path / "o", data, settings=settings, parent=parent)
    with refused("out-taken", "out", OutputError):
        gatenorm.recover(place.pruned, other, text, settings=SETTINGS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "short.txt"]
