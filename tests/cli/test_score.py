"""What ``score`` says where there is nothing to score, and how it says what it read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gatenorm import api
from gatenorm.cli import main

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
