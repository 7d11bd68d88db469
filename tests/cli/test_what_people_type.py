"""What people type without having read the help."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import gatenorm
from gatenorm.audit.plan.config import Config, config_from, read_config
from gatenorm.checkpoint.hub import local_path
from gatenorm.cli import app, console, main
from gatenorm.models import loading, processor
from gatenorm.models.model import Model
from gatenorm.records import Results
from tests.command_line import answer, refusal, refused
from tests.report.audits import audit

TinyModels = Callable[..., Path]


def test_the_package_runs_as_a_module():
    said = subprocess.run([sys.executable, "-m", "gatenorm", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == "gatenorm 0.1.0\n"


def test_the_help_of_the_program_has_whole_summaries(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    said = answer(capsys, "--help").out
    assert max(map(len, said.splitlines())) <= 80
    words = " ".join(said.split())
    for command in app.registered_commands:
        assert command.callback is not None
        assert " ".join(str(command.callback.__doc__).split()) in words


def test_a_range_without_an_end_that_matters_has_none():
    assert refusal("score", "demo", "--samples", "0").text().endswith("expected a whole number from 1")
    assert refusal("audit", "demo", "--threads", "0").text().endswith("expected a whole number from 1 to 4096")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("score", "demo", "--samples", "0"), "--samples 0 is not valid: expected a whole number from 1"),
        (("score", "demo", "--seed", "1.5"), "--seed 1.5 is not valid: expected a whole number from 0"),
        (("score", "demo", "--seed", 2**63), f"--seed {2**63} is not valid: expected a whole number from 0"),
        (("prune", "demo", "--layers", "two", "--dry-run"), "--layers two is not valid: expected a whole number"),
        (("prune", "demo", "--layers", "2"), "out-missing out"),
        (("eval", "demo", "--dtype", "q4_0"), "dtype-unknown dtype"),
        (("audit", "demmo"), "demmo does not exist; did you mean 'demo'?"),
    ],
)
def test_a_slip_is_named_with_what_was_expected(
    arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
):
    refused(capsys, expected, *arguments)


@pytest.mark.parametrize(("text", "is_path"), [("gpt2", False), ("a/b", False), ("no.gguf", True), ("./gpt2", True)])
def test_a_name_alone_is_a_model_of_the_hub(text: str, is_path: bool):
    assert (local_path(text) is not None) == is_path


@pytest.mark.parametrize("name", ["fp16", "float16", "FP16", "torch.float16"])
def test_data_types_have_the_names_that_people_know(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    file = tmp_path / "audit.yaml"
    assert main(["audit", "demo", "--dtype", name, "--write-config", str(file)]) == 0
    assert read_config(file).run.dtype == "float16"


@pytest.mark.parametrize("has_units", [True, False])
def test_bfloat16_without_units_for_it_is_warned_of(
    has_units: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(processor, "has_bfloat16_units", lambda: has_units)
    for dtype in ("bfloat16", "float32"):
        assert main(["eval", "demo", "--tasks", "perplexity", "--data", "nowhere", "--dtype", dtype]) == 2
        warned = capsys.readouterr().err.startswith("warning: this processor has no units for bfloat16")
        assert warned == (dtype == "bfloat16" and not has_units)


@pytest.mark.parametrize("how", ["file", "option", "both"])
def test_an_audit_is_warned_of_bfloat16_once_whoever_asks(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(processor, "has_bfloat16_units", lambda: False)
    file = tmp_path / "audit.yaml"
    file.write_text("run: {dtype: bfloat16}" if how != "option" else "run: {}")
    options = [] if how == "file" else ["--dtype", "bf16", "--device", "cpu"]
    command = ["audit", str(tmp_path / "nowhere"), "--config", str(file), *options, "-o", str(tmp_path / "out")]
    assert main(command) == 2
    assert capsys.readouterr().err.count("warning: this processor has no units for bfloat16") == 1


@pytest.mark.parametrize("accelerator", [True, False])
def test_a_device_that_is_chosen_is_the_processor_where_there_is_no_other(
    accelerator: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(processor, "has_accelerator", lambda: accelerator)
    monkeypatch.setattr(processor, "has_bfloat16_units", lambda: False)
    assert loading.dtype_for("auto", "auto") == ("auto" if accelerator else torch.float32)
    # A record says what it was run in.
    model = Model.of_layout(gatenorm.open_model("demo"), device="auto")
    assert model.computes_in == ("bfloat16" if accelerator else "float32")
    given = ["--device", "auto", "--dtype", "bfloat16"]
    assert main(["eval", "demo", "--tasks", "perplexity", "--data", "nowhere", *given]) == 2
    assert ("no units for bfloat16" in capsys.readouterr().err) == (not accelerator)


def test_the_configuration_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "an audit.yaml"
    said = answer(capsys, "audit", "demo", "--rounds", "12", "--gate", "speed-up=off", "--write-config", file)
    assert shlex.split(said.out) == ["gatenorm", "audit", "demo", "--config", str(file)]
    assert read_config(file) == config_from({"speed": {"rounds": 12}, "gates": {"speed-up": None}})
    assert list(tmp_path.iterdir()) == [file]
    assert answer(capsys, "audit", "demo", "--write-config", file).status == 0
    assert read_config(file) == Config()


def test_a_dry_run_plans_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "pruned"
    dry = answer(capsys, "prune", "demo", "--layers", "2", "--dry-run", "--json", "-")
    named = answer(capsys, "prune", "demo", "--layers", "2", "-o", out, "--dry-run", "--json", "-")
    assert json.loads(named.out)["edits"] == json.loads(dry.out)["edits"]
    assert not out.exists()
    assert [edit["layer"] for edit in json.loads(dry.out)["edits"]] == [13, 15]
    said = answer(capsys, "prune", "demo", "--layers", "2", "--dry-run").out
    assert "nothing was written" in said


def test_scores_as_a_spreadsheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    header, *lines = answer(capsys, "score", "demo", "--csv", "-").out.splitlines()
    assert header == "layer,score,rank"
    assert [line.split(",")[0] for line in lines] == [str(n) for n in range(16)]
    assert [line.split(",")[0] for line in lines if line.endswith((",1", ",2"))] == ["13", "15"]
    file = tmp_path / "scores.csv"
    said = answer(capsys, "score", "demo", "--csv", file).out
    assert file.read_text().splitlines() == [header, *lines]
    assert "rank" in said  # the table is for people all the same


def test_measurements_as_a_spreadsheet():
    rows = list(Results(audit("demo").baseline).rows())
    assert {tuple(row) for row in rows} == {("model", "measured", "task", "data", "figure", "value")}
    speeds = {row["data"] for row in rows if row["measured"] == "speed"}
    assert speeds >= {"128 tokens, batch 1", "448 tokens, batch 1"}


def test_progress_can_be_switched_off_anywhere(monkeypatch: pytest.MonkeyPatch):
    shown: list[bool] = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("gatenorm.cli.console.deliver", lambda *_: shown.append(console.shows_progress()))
    assert main(["score", "demo", "--quiet"]) == 0
    assert main(["score", "demo"]) == 0
    assert shown == [False, True]


def test_other_libraries_may_speak_anywhere(monkeypatch: pytest.MonkeyPatch):
    from transformers.utils import logging

    before = logging.get_verbosity()
    monkeypatch.setattr("gatenorm.cli.console.deliver", lambda *_: console.quiet_transformers())
    for arguments, level, hub in ((["--verbose"], logging.INFO, "info"), ([], logging.ERROR, "error")):
        monkeypatch.delenv("HF_HUB_VERBOSITY", raising=False)
        assert main(["score", "demo", *arguments]) == 0
        assert os.environ["HF_HUB_VERBOSITY"] == hub
        assert logging.get_verbosity() == level
    logging.set_verbosity(before)


def test_the_doctor_names_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gatenorm.engines._installation._version", lambda name: None if name == "gguf" else "1.0")
    found = json.loads(answer(capsys, "doctor", "--json", "-").out)
    extras = {extra["name"]: extra["packages"] for extra in found["extras"]}
    assert extras["gguf"] == {"gguf": None}
    assert extras["torch"]["torch"] == "1.0"
    assert "dev" not in extras
    assert {engine["name"] for engine in found["engines"]} >= {"transformers", "llamacpp", "vllm", "mlx"}
    said = answer(capsys, "doctor").out
    assert "pip install 'gatenorm[gguf]'" in said
    assert "pip install 'gatenorm[torch]'" not in said
