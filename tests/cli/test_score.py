"""What ``score`` says where there is nothing to score, and how it says what it read."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from gatenorm import api
from gatenorm.cli import main
from gatenorm.errors import CriterionError
from tests import errors
from tests.command_line import answer, refusal, refused

TinyModels = Callable[..., Path]


@pytest.mark.parametrize("criterion", ["depth", "block-cosine@random"])
def test_no_whole_block_left_is_one_line(
    criterion: str, tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = tiny_models("llama-gqa")
    half = api.prune(model, tmp_path / "half", api.plan(model, drop=[0, 1])).path
    rest = api.prune(half, tmp_path / "rest", api.plan(half, drop=[2, 3], kind="mlp")).path
    assert main(["score", str(rest), "--kind", "block", "--criterion", criterion]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "--kind block cannot be scored" in err
    assert main(["score", str(rest), "--kind", "mlp", "--criterion", "depth"]) == 0


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["demo"], "gatenorm prune demo --layers 3 -o demo-3"),
        (["demo", "--criterion", "ov-norm"], "gatenorm prune demo --layers 3 --criterion ov-norm -o demo-3"),
        (
            ["demo", "--kind", "mlp", "--criterion", "depth"],
            "gatenorm prune demo --layers 3 --criterion depth --kind mlp -o demo-3",
        ),
    ],
)
def test_the_command_that_removes_the_weakest_stands_at_the_end(
    arguments: list[str], command: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["score", *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"What removes the 3 weakest: {command}"


def test_the_weakest_fifth_is_rounded_as_shares_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["prune", "demo", "--drop", "1,2,3", "-o", str(tmp_path / "pruned")]) == 0
    assert main(["score", str(tmp_path / "pruned")]) == 0  # a fifth of 13 is 2.6
    assert "What removes the 3 weakest: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "asked",
    [
        "--criterion random --seed 3",
        "--criterion cosine@random --samples 2 --length 16 --seed 2",
        "--criterion depth --cross-check --samples 2 --length 16",
        "--criterion block-cosine@random --samples 2 --length 16",
    ],
)
def test_the_command_that_comes_next_removes_what_the_table_shows(
    asked: str, tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    scores, plan = tmp_path / "scores.json", tmp_path / "plan.json"
    said = answer(capsys, "score", tiny_models("llama-gqa"), *asked.split(), "--json", scores).out
    *_, line = said.splitlines()
    _, *command = shlex.split(line.partition(": ")[2])
    assert main([*command, "--dry-run", "--json", str(plan)]) == 0
    weakest, *_ = json.loads(scores.read_text())["ranking"]
    assert {edit["layer"] for edit in json.loads(plan.read_text())["edits"]} == {weakest}


def test_the_command_that_comes_next_treats_the_model_as_the_same_family(
    tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]
):
    said = answer(capsys, "score", tiny_models("llama-gqa"), "--family", "llama").out
    assert " --family llama " in said.splitlines()[-1]


def test_after_a_ranking_of_both_kinds_the_command_removes_both(
    tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]
):
    asked = "--kind any --criterion cosine@random --samples 2 --length 16 --batch 2"
    said = answer(capsys, "score", tiny_models("llama-gqa"), *asked.split()).out
    _, *command = shlex.split(said.splitlines()[-1].partition(": ")[2])
    assert command[command.index("--kind") :][:2] == ["--kind", "any"]
    assert main([*command, "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--layer-by-layer", "option-unused layer_by_layer"),
        ("--activations x", "option-unused activations"),
        ("--samples 3", "option-unused samples"),
        ("--criterion cosine@random --backend torch", "option-unused backend"),
    ],
)
def test_what_would_do_nothing_is_refused(given: str, expected: str, capsys: pytest.CaptureFixture[str]):
    refused(capsys, expected, "score", "demo", *given.split())


def test_an_unknown_kind_is_told_all_that_there_are():
    error = refusal("score", "demo", "--kind", "foo")
    assert (error.code, error.field) == ("kind-unknown", "kind")
    assert "any" in error.hint
    with errors.refused("kind-of-two", "kind", CriterionError):
        api.score("demo", kind="any")


def test_a_model_that_is_not_there_is_named_as_it_was_typed():
    assert refusal("score", "./nothing").text().startswith("./nothing does not exist")
