"""The harness's tasks answered by vLLM: the same requests, log-likelihoods and verdicts as through transformers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import gatenorm
from gatenorm.cli import main
from tests.engines.elsewhere import ROOT, python_with

pytestmark = [pytest.mark.engines, pytest.mark.shared]

# Sums of up to some hundred log-probabilities in float32, in another order.
LARGEST = 5e-3
ITEMS = 20


@pytest.fixture(scope="module")
def python() -> str:
    return python_with("vllm", ".venv-vllm")


@pytest.fixture(scope="module")
def arguments(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A pruned model beside its dense one on two tasks with short and long requests."""
    dense, pruned = shared / "models/stories3M", tmp_path_factory.mktemp("pruned") / "stories3M-2"
    gatenorm.prune(dense, pruned, gatenorm.plan(dense, layers=2, criterion="gate-norm"))
    tasks = ["--tasks", "zeroshot:boolq+arc_easy", "--data", str(shared / "data/zeroshot"), "--limit", str(ITEMS)]
    return ["eval", str(pruned), "--baseline", str(dense), *tasks, "--dtype", "float32", "--no-cache", "--items"]


@pytest.fixture(scope="module")
def answered(python: str, arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The records of vLLM."""
    out = tmp_path_factory.mktemp("answered") / "vllm.json"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [str(Path(python).with_name("gatenorm")), *arguments, "--engine", "vllm", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return list(json.loads(out.read_text()))


def test_vllm_answers_as_transformers_does(
    answered: list[dict[str, Any]], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([*arguments, "--json", str(tmp_path / "here.json")]) == 0
    here = json.loads((tmp_path / "here.json").read_text())
    assert [r["schema"] for r in answered] == [r["schema"] for r in here]
    pairs = zip(here, answered, strict=True)
    measured = [(ours, theirs) for ours, theirs in pairs if ours["schema"] == "gatenorm/zeroshot/1"]
    assert len(measured) == 4  # two tasks, two models
    for ours, theirs in measured:
        assert theirs["protocol"]["engine"] == "vllm"
        assert any(name.startswith("vllm") for name in theirs["versions"])
        assert theirs["data"] == ours["data"]
        assert theirs["edits"] == ours["edits"]
        assert len(ours["items"]) == ITEMS
        assert theirs["metrics"].keys() == ours["metrics"].keys()
        for metric, figure in ours["metrics"].items():
            assert theirs["metrics"][metric] == pytest.approx(figure, nan_ok=True)
        assert theirs["protocol"]["longest_input"] == ours["protocol"]["longest_input"]
        assert theirs["protocol"]["dtype"] == "float32"
        for one, other in zip(ours["items"], theirs["items"], strict=True):
            assert other["id"] == one["id"]
            assert other["metrics"] == one["metrics"]
            assert other["loglikelihoods"] == pytest.approx(one["loglikelihoods"], abs=LARGEST)


def test_a_task_that_vllm_cannot_answer_is_refused_in_one_line(python: str, shared: Path):
    command = [str(Path(python).with_name("gatenorm")), "eval", "demo", "--engine", "vllm"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--engine vllm cannot run perplexity of demo" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
