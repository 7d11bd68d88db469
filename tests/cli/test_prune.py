"""What ``prune`` is told to remove: once, in whatever way, and with nothing beside it that would do nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import gatenorm
from gatenorm.cli import main
from gatenorm.cli.tables.pruning import show
from tests.command_line import answer, refusal, refused

TinyModels = Callable[..., Path]
LEFTOVERS = {
    "--layers 1 --machine foo": "option-unused machine",
    "--layers 1 --context 5 --batch 2": "option-unused context",
    "--drop 1 --criterion cosine@self": "option-unused criterion",
    "--drop 1 --cross-check": "option-unused cross_check",
    "--plan plan.json": "file-missing",
    "--layers 1 --samples 3": "option-unused samples",
    "": "choice-unclear",
    "--layers 1 --max-cache-gb 2": "choice-unclear",
    "--share 120%": "share-out-of-range share",
    "--share 0": "share-out-of-range share",
    "--share 20%5": "option-value share",
    "--layers x": "option-value layers",
    "--layers 1 --criterion random --seed -1": "option-value seed",
    "--layers 1 --criterion random --seed 9223372036854775808": "option-value seed",
}


@pytest.mark.parametrize("given", LEFTOVERS)
def test_what_would_do_nothing_is_refused(
    given: str, tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    refused(capsys, LEFTOVERS[given], "prune", tiny_models("llama-gqa"), "-o", tmp_path / "out", *given.split())
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "expected"),
    [("--seed 3", "option-unused seed"), ("--kind mlp", "option-unused kind"), ("--kind any", "option-unused kind")],
)
def test_what_a_plan_decides_is_not_decided_beside_it(
    given: str, expected: str, tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model, plan = tiny_models("llama-gqa"), tmp_path / "plan.json"
    plan.write_text(json.dumps(gatenorm.plan(model, drop=[1]).to_dict()))
    refused(capsys, expected, "prune", model, "--plan", plan, *given.split(), "--dry-run")


def test_what_is_no_plan_is_named_with_its_file(tiny_models: TinyModels):
    config = tiny_models("llama-gqa") / "config.json"
    error = refusal("prune", config.parent, "--plan", config, "--dry-run")
    assert error.code == "schema-unknown"
    assert str(config) in error.problem
    assert error.hint == ""


def test_a_plan_with_a_cross_check_is_fitted_as_any_other(tiny_models: TinyModels, tmp_path: Path):
    model, plan = str(tiny_models("llama-gqa")), str(tmp_path / "plan.json")
    few = ["--samples", "2", "--length", "16"]
    asked = ["--layers", "1", "--replace", "constant", "--cross-check", *few]
    assert main(["prune", model, *asked, "--dry-run", "--json", plan]) == 0
    fit = ["--fit", "random", "--fit-samples", "16", "--length", "16", "--judge", "none"]
    assert main(["prune", model, "--plan", plan, *fit, "-o", str(tmp_path / "out")]) == 0
    assert gatenorm.open_model(tmp_path / "out").pruned.plan.fit is not None


@pytest.mark.parametrize("drop", ["0", "1"])
def test_the_cache_that_goes_is_told_by_what_each_layer_keeps(
    drop: str, tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]
):
    """Every second layer sees 16 tokens of 128, so that layers are no measure of the cache."""
    model = tiny_models("gemma3_text")
    predicted = gatenorm.forecast(model, gatenorm.plan(model, drop=[int(drop)]))
    assert abs(predicted.cache - 0.25) > 0.1
    said = answer(capsys, "prune", model, "--drop", drop, "--dry-run").out
    assert f"its key/value cache is {predicted.cache:.1%} smaller at {predicted.context:,} tokens" in said


def test_where_nothing_can_be_predicted_layers_are_counted(tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]):
    layout = gatenorm.open_model(tiny_models("llama-gqa"))
    show(layout, gatenorm.plan(layout, drop=[1]), None, None, None, None, "llama")
    assert "its key/value cache is that of 1 layer fewer" in capsys.readouterr().out


@pytest.mark.parametrize("share", ["20%", "0.2", " 20 % "])
def test_a_share_can_be_per_cent(share: str, tiny_models: TinyModels, tmp_path: Path):
    assert main(["prune", str(tiny_models("llama-mha")), "-o", str(tmp_path / "out"), "--share", share]) == 0
    assert len(json.loads((tmp_path / "out/gatenorm.json").read_text())["edits"]) == 1


@pytest.mark.parametrize("command", ["score MODEL", "compare MODEL --criteria depth,random", "curve MODEL --data TEXT"])
@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_are_what_records_can_hold(command: str, seed: int, capsys: pytest.CaptureFixture[str]):
    assert main([*command.split(), "--seed", str(seed)]) == 2
    error = f"error: --seed {seed} is not valid: expected a whole number from 0 to {2**63 - 1}\n"
    assert capsys.readouterr().err == error


def test_the_largest_seed_can_be_pruned_by_again(tiny_models: TinyModels, tmp_path: Path):
    first = ["--layers", "1", "--criterion", "random", "--seed", str(2**63 - 1)]
    assert main(["prune", str(tiny_models("llama-mha")), "-o", str(tmp_path / "a"), *first]) == 0
    assert main(["prune", str(tmp_path / "a"), "-o", str(tmp_path / "b"), *first]) == 0


@pytest.mark.parametrize("inside", ["out", "deep/out", "../link/out", "../model/out"])
@pytest.mark.parametrize("command", ["prune --drop 1", "export --to nemotron-nas"])
def test_an_output_inside_the_source_is_refused(
    inside: str, command: str, tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    (tmp_path / "link").symlink_to("model")
    before = sorted(model.iterdir())
    name, *options = command.split()
    assert main([name, str(model), *options, "-o", str(model / inside)]) == 2
    assert "lies inside the model" in capsys.readouterr().err
    assert sorted(model.iterdir()) == before
    assert main([name, str(model), *options, "-o", str(tmp_path / "model-out")]) == 0


def test_replaced_sublayers_are_said_to_be_replaced(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, out = tiny_models("llama-gqa"), tmp_path / "out"
    how = ("--replace", "linear:8", "--fit", "random", "--fit-samples", "24", "--length", "16")
    said = answer(capsys, "prune", source, "--layers", "2", *how, "-o", out, "--json", tmp_path / "plan.json").out
    plan = json.loads((tmp_path / "plan.json").read_text())
    kept = [edit for edit in plan["fit"]["edits"] if edit["kept"]]
    assert [edit["operation"] for edit in plan["edits"]].count("linear:8") == len(kept)
    assert "fitted on 336 tokens of random" in said
    assert "random, held out: " in said
    assert "self, not fitted on: " in said
    assert "336 tokens of `random`" in (out / "README.md").read_text()
    if kept:
        assert "replaced by a linear map" in said
        assert "(linear:8)" in answer(capsys, "inspect", out).out


def test_a_fit_that_does_more_damage_than_removal_everywhere_is_a_removal_in_one_line(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from gatenorm.fitting import trial

    true = trial.weights_of
    monkeypatch.setattr(
        trial, "weights_of", lambda edit, problem: {n: -300 * v for n, v in true(edit, problem).items()}
    )
    source, out = tiny_models("llama-gqa"), tmp_path / "out"
    how = ("--replace", "linear", "--fit", "random", "--fit-samples", "24", "--length", "16", "--judge", "none")
    said = answer(capsys, "prune", source, "--drop", "0,2", *how, "-o", out).out
    assert "layers 0, 2: removed plainly, as what was fitted did no better than removal" in said
    assert "self, not fitted on" not in said
    assert {edit.operation for edit in gatenorm.open_model(out).edits} == {"remove"}


def test_tokens_to_judge_on_are_of_use_only_where_predictions_are_compared(
    tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]
):
    source = str(tiny_models("llama-gqa"))
    for how in ((), ("--replace", "linear", "--layer-by-layer")):
        assert main(["prune", source, "--drop", "1", "--judge", "self", *how, "--dry-run"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: --judge is not used")
        assert said.count("\n") == 1
