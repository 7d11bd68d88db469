"""The configuration: every key is known, every value can stand where it stands, errors come before work."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from gatenorm.audit.judge.gates import GATES
from gatenorm.audit.plan.config import Config, config_from, read_config
from gatenorm.audit.run.main import prepare
from gatenorm.cli import audit, main
from gatenorm.cli.audit_options import merged
from gatenorm.errors import AuditError, GatenormError

# What the command gets where no option is given.
NOTHING = dict.fromkeys(inspect.signature(audit.command).parameters)


def test_what_is_written_is_read_back():
    config = config_from(
        {
            "budgets": {"shares": [0.25], "layers": [3]},
            "evaluation": {"texts": ["a.txt", {"data": "wikitext2", "window": 512}]},
            "gates": {"perplexity-rise": "2%", "speed-up": None},
            "run": {"executor": "ray", "threads": 1},
        }
    )
    assert config.evaluation.texts[0].data == "a.txt"
    assert config.evaluation.texts[1].window == 512
    assert config_from(config.to_json()) == config
    assert config_from(Config().to_json()) == Config()


def test_the_documented_file_is_one_that_can_be_read(tmp_path: Path):
    """Every setting there is, with the default that the comments state."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    (tmp_path / "audit.yaml").write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    config = read_config(tmp_path / "audit.yaml")
    assert config.gates == {"perplexity-rise": 2.0, "speed-up": None}
    for section in ("budgets", "rankings", "speed", "recovery", "worth", "search", "run"):
        assert getattr(config, section) == getattr(Config(), section)
    for name in GATES:
        assert f"| `{name}` |" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budget": {}}, r"the key 'budget' is not known; did you mean 'budgets'\?"),
        ({"speed": {"round": 3}}, r"the key 'speed.round' is not known; did you mean 'rounds'\?"),
        ({"evaluation": {"texts": [{"data": "a", "windows": 3}]}}, r"'evaluation.texts\[0\].windows'.*'window'"),
        ({"evaluation": {"texts": [{"window": 3}]}}, r"evaluation.texts\[0\] lacks the key 'data'"),
        ({"speed": {"rounds": 0}}, "speed.rounds: 0 is not what is expected there: a whole number from 1"),
        ({"budgets": {"shares": [1.5]}}, "a share from 0.001 to 0.999"),
        ({"budgets": {"shares": 0.2}}, "a list"),
        ({"run": {"executor": "slurm"}}, "'slurm' is not known; known: local, ray"),
        ({"gates": {"perplexity": 2}}, "gates.perplexity: there is no such gate"),
        ({"gates": ["perplexity-rise"]}, "gates with their limits"),
        (["budgets"], "keys with values"),
    ],
)
def test_what_is_not_known_is_not_passed_over(given: object, said: str):
    with pytest.raises(AuditError, match=said):
        config_from(given)  # type: ignore[arg-type]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(AuditError, match="there is no such file"):
        read_config(tmp_path / "none.yaml")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("budgets: [")
    with pytest.raises(AuditError, match=r"wrong\.yaml: not readable YAML"):
        read_config(wrong)
    wrong.write_text("run: {thread: 1}")
    with pytest.raises(AuditError, match=r"wrong\.yaml: the key 'run.thread' is not known"):
        read_config(wrong)
    wrong.write_text("")
    assert read_config(wrong) == Config()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gate", "verify=0"], "--gate verify rests on an evaluation that is not asked for (verify): name an engine"),
        (["--gate", "domain-divergence=0.1"], "give your workload, --domain FILE"),
        (["--gate", "perplexity-rise"], "expected GATE=LIMIT"),
        (["--search", "speed-up"], "--search 'speed-up' cannot be searched by"),
        (["--domain", "nothing.jsonl"], "error: --domain nothing.jsonl: there is no file nothing.jsonl"),
        (["--data", "nothing.txt"], "error: --data nothing.txt: there is no file nothing.txt"),
        (["--refusal", "nothing.jsonl"], "error: --refusal nothing.jsonl: there is no file nothing.jsonl"),
        (["--zeroshot", "nowhere"], "--zeroshot nowhere is no directory"),
        (["--calibration", "nope"], "error: --calibration nope: there is no file nope"),
        (["--criteria", "gate-norm,cosine", "--calibration", "nope"], "error: --calibration nope: there is no file"),
        (["--criteria", "gate-norm,cosine@nope"], "error: --criteria cosine@nope: there is no file nope"),
        (["--no-recover", "--recover-data", "nope"], "error: --recover-data nope: there is no file nope"),
        (["--max-perplexity-rise", "x"], "error: --max-perplexity-rise: 'x' is no limit: expected a number of %"),
        (["--gate", "perplexity-rise=x"], "error: --gate perplexity-rise: 'x' is no limit"),
        (["--gate", "foo=1"], "error: --gate foo: there is no such gate; known"),
        (
            ["--share", "20"],
            "--share: '20' is not what is expected there: a share from 0.001 to 0.999, or as 20%",
        ),
        (["--share", "much"], "error: --share: 'much' is not what is expected there: a share"),
        (["--dtype", "float31"], "error: --dtype: 'float31' is not known"),
        (["--fail-on", "perplexity"], "is no gate of this audit; did you mean 'perplexity-rise'?"),
        (["--criteria", "gate-nrom"], "did you mean 'gate-norm'?"),
        (["--engine", "tensorrt"], "'tensorrt' is not known"),
        (["--layers", "16"], "cannot remove 16 attention sublayers"),
        (["--target-speedup", "9"], "--target-speedup 9 is out of reach"),
        (["--protect", "99"], "layer 99 cannot be protected"),
        (["--recover-data", "nothing.txt"], "--recover-data nothing.txt: there is no file nothing.txt"),
        (["--documents", "x"], "are about the texts of --data"),
        (["--device", "warp"], "--device warp cannot be used"),
    ],
)
def test_bad_input_is_one_line_before_any_work(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "audit"
    assert main(["audit", "-o", str(out), *arguments]) == 2
    _, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "section", "key"),
    [
        ("--data", "evaluation", "texts"),
        ("--domain", "evaluation", "domain"),
        ("--refusal", "evaluation", "refusal"),
        ("--calibration", "rankings", "calibration"),
        ("--recover-data", "recovery", "data"),
    ],
)
def test_an_empty_file_is_named_as_it_was_given(
    option: str, section: str, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    empty = tmp_path / "e.txt"
    empty.write_text("")
    out = tmp_path / "audit"
    assert main(["audit", "-o", str(out), option, str(empty)]) == 2
    assert capsys.readouterr().err == f"error: {option} {empty}: the file is empty\n"
    config = tmp_path / "audit.yaml"
    config.write_text(json.dumps({section: {key: [str(empty)] if key == "texts" else str(empty)}}))
    assert main(["audit", "-o", str(out), "--config", str(config)]) == 2
    assert capsys.readouterr().err == f"error: {section}.{key} {empty}: the file is empty\n"
    assert not out.exists()


def test_zero_shot_files_that_are_missing_are_asked_for_in_the_audits_own_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["audit", "-o", str(tmp_path / "audit"), "--zeroshot", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert (
        "name the tasks that you have in evaluation.zeroshot_tasks of --config, or say hub in place of the directory"
        in said
    )
    assert "--tasks" not in said
    assert "--data" not in said


def test_a_model_that_cannot_be_run_does_not_hide_a_file_that_is_missing(tiny_models: Any, tmp_path: Path):
    model = tiny_models("llama-mha")  # it has no tokenizer
    for section, values in (("rankings", {"calibration": "nope"}), ("recovery", {"data": "nope"})):
        with pytest.raises(GatenormError, match="nope: there is no file nope"):
            prepare(str(model), tmp_path / "audit", config_from({section: values}))


def test_shares_may_be_per_cent(tmp_path: Path):
    config = config_from({"budgets": {"shares": ["20%", "0.4", 0.1]}, "recovery": {"from_share": "35%"}})
    assert config.budgets.shares == (0.2, 0.4, 0.1)
    assert config.recovery.from_share == 0.35
    assert merged(Config(), {**NOTHING, "share": "20%, 0.4"}).budgets.shares == (0.2, 0.4)


def test_the_built_in_model_has_everything_but_a_workload(tmp_path: Path):
    prepared = prepare("demo", tmp_path / "audit", Config())
    assert [b.name for b in prepared.budgets] == ["conservative", "practical", "aggressive"]
    assert {a.feeds for a in prepared.asked} == {"texts", "tasks", "refusal", "retrieval"}
    assert [m.what for m in prepared.missing] == ["your own workload"]
    assert set(prepared.limits) == {"perplexity-rise", "task-drop", "refusal-flips", "retrieval-loss", "speed-up"}
