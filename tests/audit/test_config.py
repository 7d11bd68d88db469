"""The configuration: every key is known, every value fits its key, errors come before work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gatenorm.api import open_model
from gatenorm.audit.judge.gates import gates
from gatenorm.audit.plan import evaluations as planned_evaluations
from gatenorm.audit.plan.budgets import OPERATIONS, Budget, with_operations
from gatenorm.audit.plan.config import LIMITS, Config, Evaluation, config_from, quick, read_config
from gatenorm.audit.plan.evaluations import asked_by, evaluations
from gatenorm.audit.plan.memory_use import memory
from gatenorm.audit.plan.outline import longest, outline
from gatenorm.audit.plan.parts import RECOVER, parts
from gatenorm.audit.plan.prepare import prepare
from gatenorm.cli import main
from gatenorm.cli.audit_options import overlay
from gatenorm.errors import AuditError, EvaluationError, GatenormError, RecoveryError
from gatenorm.evaluation.core import registry
from gatenorm.evaluation.core.audit_role import AuditRole
from gatenorm.evaluation.core.job import Job
from gatenorm.evaluation.core.task import Task
from gatenorm.evaluation.tasks import retrieval
from gatenorm.models.architecture import Architecture
from gatenorm.records.audit import Setting, StepName
from gatenorm.records.numbers import bytes_for_people
from gatenorm.records.serialization import to_json
from tests import errors
from tests.command_line import refusal, refused


def test_what_is_written_is_read_back():
    config = config_from(
        {
            "budgets": {"shares": [0.25], "layers": [3]},
            "evaluation": {"texts": ["a.txt", {"data": "wikitext2", "window": 512}]},
            "gates": {"perplexity-rise": "2%", "speed-up": None},
            "run": {"executor": "ray", "threads": 1},
        }
    )
    assert config.evaluation.text_data[0].data == "a.txt"
    assert config.evaluation.text_data[1].window == 512
    assert config_from(to_json(config)) == config
    assert config_from(to_json(Config())) == Config()


def test_the_documented_file_is_one_that_can_be_read(tmp_path: Path):
    """Every setting there is, with the default that the comments state."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    (tmp_path / "audit.yaml").write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    config = read_config(tmp_path / "audit.yaml")
    assert config.gates == {"perplexity-rise": 2.0, "speed-up": None}
    for section in ("budgets", "rankings", "speed", "recovery", "cost", "search", "run"):
        assert getattr(config, section) == getattr(Config(), section)
    for name in gates():
        assert f"| `{name}` |" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budget": {}}, ("field-unknown", "budget", "'budgets'")),
        ({"speed": {"round": 3}}, ("field-unknown", "speed.round", "'rounds'")),
        (
            {"evaluation": {"texts": [{"data": "a", "windows": 3}]}},
            ("field-unknown", "evaluation.texts[0].windows", "'window'"),
        ),
        ({"evaluation": {"texts": [{"window": 3}]}}, ("field-missing", "evaluation.texts[0].data", "")),
        ({"speed": {"rounds": 0}}, ("field-wrong", "speed.rounds", ">= 1")),
        ({"budgets": {"shares": [1.5]}}, ("field-wrong", "budgets.shares[0]", "0.001 to 0.999")),
        ({"budgets": {"shares": 0.2}}, ("field-wrong", "budgets.shares", "a list")),
        ({"run": {"executor": "slurm"}}, ("field-wrong", "run.executor", "local, ray")),
        ({"gates": {"perplexity": 2}}, ("gate-unknown", "gates.perplexity", "'perplexity-rise'")),
        ({"gates": {"perplexity-rise": "x"}}, ("limit-wrong", "gates.perplexity-rise", "%")),
        ({"gates": ["perplexity-rise"]}, ("field-wrong", "gates", "keys and values")),
        ({"run": 3}, ("field-wrong", "run", "keys and values")),
    ],
)
def test_what_is_not_known_is_an_error(given: dict[str, Any], said: tuple[str, str, str]):
    code, field, right = said
    with errors.refused(code, field) as error:
        config_from(given)
    assert right in f"{error.value.expected} {error.value.hint}"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    path = tmp_path / "audit.yaml"
    for content, code, field, named in (
        (None, "file-missing", "config", f"config {path} "),
        ("budgets: [", "yaml-unreadable", "config", f"config {path} "),
        ("- budgets", "config-no-mapping", "config", f"config {path} "),
        ("run: {thread: 1}", "field-unknown", "run.thread", f"{path}: run.thread "),
    ):
        if content is not None:
            path.write_text(content)
        with errors.refused(code, field) as error:
            read_config(path)
        assert error.value.text().startswith(named)
    path.write_text("")
    assert read_config(path) == Config()


def test_errors_name_the_option_or_the_key_that_set_a_value(tmp_path: Path):
    path = tmp_path / "audit.yaml"
    path.write_text("run: {device: cpu}\nbudgets: {layers: [99]}\nrankings: {calibration: run.device}\n")
    said = refusal("audit", "demo", "-o", tmp_path / "a", "--config", path).text()
    assert said.startswith(f"{path}: rankings.calibration run.device")
    said = refusal("audit", "demo", "-o", tmp_path / "a", "--config", path, "--calibration", "none.txt").text()
    assert said.startswith("--calibration none.txt")
    said = refusal("audit", "demo", "-o", tmp_path / "a", "--share", "20%,much").text()
    assert said.startswith("--share much is not valid")


def test_a_file_name_is_never_taken_for_a_field(tmp_path: Path):
    said = refusal("audit", "demo", "-o", tmp_path / "a", "--data", "run.device", "--device", "cpu").text()
    assert said.startswith("--data run.device does not exist")
    assert "--device" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gate", "verify=0"], "gate-not-measured gates.verify"),
        (["--gate", "domain-divergence=0.1"], "gate-not-measured gates.domain-divergence"),
        (["--gate", "perplexity-rise"], "option-value gate"),
        (["--search", "speed-up"], "gate-not-searchable search.gate"),
        (["--domain", "nothing.jsonl"], "data-missing data"),
        (["--data", "nothing.txt"], "data-missing data"),
        (["--refusal", "nothing.jsonl"], "data-missing data"),
        (["--zeroshot", "nowhere"], "not-a-directory data"),
        (["--calibration", "nope"], "data-missing data"),
        (["--criteria", "gate-norm,cosine", "--calibration", "nope"], "data-missing data"),
        (["--criteria", "gate-norm,cosine@nope"], "data-missing data"),
        (["--no-recover", "--recover-data", "nope"], "data-missing data"),
        (["--max-perplexity-rise", "x"], "limit-wrong gates.perplexity-rise"),
        (["--gate", "perplexity-rise=x"], "limit-wrong gates.perplexity-rise"),
        (["--gate", "foo=1"], "gate-unknown gates.foo"),
        (
            ["--share", "20"],
            "field-wrong budgets.shares[0]",
        ),
        (["--share", "much"], "field-wrong budgets.shares[0]"),
        (["--dtype", "float31"], "field-wrong run.dtype"),
        (["--fail-on", "perplexity"], "gate-unknown fail_on"),
        (["--criteria", "gate-nrom"], "criterion-unknown criterion"),
        (["--engine", "tensorrt"], "engine-unknown engine"),
        (["--layers", "16"], "count-out-of-range layers"),
        (["--target-speedup", "9"], "out-of-reach target_speedup"),
        (["--protect", "99"], "no-budget"),
        (["--recover-data", "nothing.txt"], "data-missing data"),
        (["--documents", "x"], "data-missing documents"),
        (["--device", "warp"], "device-unusable device"),
        (["--replace", "remov"], "operation-unknown replace"),
        (["--replace", "linear:8000"], "rank-out-of-range replace"),
        (["--replace", "constant:8"], "rank-unused replace"),
        (["--fit", "generic,generic"], "fit-source-twice fit"),
        (["--fit", "nothing.txt"], "data-missing data"),
    ],
)
def test_bad_input_is_one_line_before_any_work(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "audit"
    refused(capsys, said, "audit", "-o", out, *arguments)
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
    assert capsys.readouterr().err == f"error: {option} {empty} is empty\n"
    config = tmp_path / "audit.yaml"
    config.write_text(json.dumps({section: {key: [str(empty)] if key == "texts" else str(empty)}}))
    assert main(["audit", "-o", str(out), "--config", str(config)]) == 2
    assert capsys.readouterr().err == f"error: {config}: {section}.{key} {empty} is empty\n"
    assert not out.exists()


def test_zero_shot_files_that_are_missing_are_asked_for_in_the_audits_own_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["audit", "-o", str(tmp_path / "audit"), "--zeroshot", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "name only the tasks that you have in evaluation.zeroshot_tasks" in said
    assert "--tasks" not in said
    assert "--data" not in said


def test_a_text_is_known_by_its_whole_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Only ``wikitext2=`` is no part of it."""
    monkeypatch.chdir(tmp_path)
    for name in ("a=1.txt", "b=1.txt", "1.txt"):
        Path(name).write_text("Ida Fox came first. " * 200)
    planned, _ = evaluations(open_model("demo"), Evaluation(texts=("a=1.txt", "b=1.txt", "wikitext2=1.txt")), runs=True)
    names = [one.name for one in planned if one.gate_evaluation == "perplexity"]
    assert names == [f"perplexity on {name}" for name in ("a=1.txt", "b=1.txt", "1.txt")]
    with errors.refused("text-twice", "evaluation.texts", EvaluationError):
        evaluations(open_model("demo"), Evaluation(texts=("1.txt", "wikitext2=1.txt")), runs=True)


def test_a_model_that_cannot_be_run_does_not_hide_a_file_that_is_missing(tiny_models: Any, tmp_path: Path):
    model = tiny_models("llama-mha")  # it has no tokenizer
    for section, values in (("rankings", {"calibration": "nope"}), ("recovery", {"data": "nope"})):
        with errors.refused("data-missing", "data") as error:
            prepare(str(model), tmp_path / "audit", config_from({section: values}))
        assert error.value.text().startswith(f"{section}.{next(iter(values))} nope ")
    with errors.refused("source-unusable", "data", RecoveryError) as mixed:
        prepare(str(model), tmp_path / "audit", config_from({"recovery": {"data": "generic,nope"}}))
    assert mixed.value.text().split()[0] == "recovery.data"


def test_shares_may_be_per_cent(tmp_path: Path):
    config = config_from({"budgets": {"shares": ["20%", "0.4", 0.1]}, "recovery": {"from_share": "35%"}})
    assert config.budgets.shares == (0.2, 0.4, 0.1)
    assert config.recovery.from_share == 0.35
    assert config_from(overlay({"share": ("20%", "0.4")})).budgets.shares == (0.2, 0.4)


UNJUDGED = "whether it becomes faster by enough"


def test_the_built_in_model_has_everything_but_a_workload(tmp_path: Path):
    prepared = prepare("demo", tmp_path / "audit", Config())
    assert [b.name for b in prepared.budgets] == ["conservative", "practical", "aggressive"]
    assert {a.gate_evaluation for a in prepared.evaluations} == {"perplexity", "zeroshot", "refusal", "retrieval"}
    assert [m.what for m in prepared.missing] == [
        "your own workload",
        "linear in place of 2 and 6 attentions",
        UNJUDGED,
    ]
    assert [b.operations for b in prepared.budgets] == [("remove",), ("remove", "linear"), ("remove",)]
    # Its speed is for information: no gate judges it unless a limit is given.
    gates = {"perplexity-rise", "task-drop", "refusal-flips", "retrieval-loss"}
    assert set(prepared.limits) == gates
    asked = prepare("demo", tmp_path / "audit", config_from({"gates": {"speed-up": 1.1}}))
    assert set(asked.limits) == {*gates, "speed-up"}


def test_a_quick_audit_has_one_budget_and_few_items_of_everything(tmp_path: Path):
    config = config_from(quick(), overlay({"rounds": 9}))
    assert config.speed.rounds == 9  # what is asked for wins
    assert set(quick()["evaluation"]) == {*LIMITS, "retrieval_window"}
    prepared = prepare("demo", tmp_path / "audit", config)
    assert [b.name for b in prepared.budgets] == ["practical"]
    assert all(planned.options.limit for planned in prepared.evaluations)
    text = config_from(
        quick(), {"evaluation": {"texts": ["a.txt", {"data": "b.txt", "limit": 3}]}}
    ).evaluation.text_data
    assert [one.limit for one in text] == [16, 3]
    file = tmp_path / "audit.yaml"
    file.write_text("budgets: {shares: [0.4]}")
    assert read_config(file, below=quick()).budgets.shares == (0.4,)
    assert read_config(file, below=quick()).speed.rounds == 6


def test_a_limit_beside_a_configuration_is_the_limit_of_its_texts_too(tmp_path: Path):
    """So that what an audit gives as its next command reads more of a text."""
    first = config_from(overlay({"data": ["a.txt", "b.txt"], "limit": {"": 8}}))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(to_json(first)))
    assert [text.limit for text in read_config(file, overlay({"limit": {"": 32}})).evaluation.text_data] == [32, 32]
    file.write_text("evaluation: {texts: [{data: a.txt, limit: 8}, b.txt], refusal_limit: 2}")
    more = read_config(file, overlay({"limit": {"text": 32, "": 4}})).evaluation
    assert ([text.limit for text in more.text_data], more.refusal_limit, more.domain_limit) == ([32, 32], 4, 4)
    same = read_config(file, overlay({"limit": {"refusal": 4}})).evaluation
    assert ([text.limit for text in same.text_data], same.refusal_limit) == ([8, None], 4)


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        ("0", "option-value limit"),
        ("text=many", "option-value limit"),
        ("texts=8", "field-unknown evaluation.texts_limit"),
    ],
)
def test_limits_are_numbers_of_evaluations(limit: str, error: str):
    found = refusal("audit", "demo", "--limit", limit)
    assert f"{found.code} {found.field}" == error


def test_whether_speed_is_judged_is_said(tmp_path: Path):
    """Timings of a model with a language of its own tell nothing of larger ones."""
    speed = next(gap for gap in prepare("demo", tmp_path, config_from({})).missing if gap.step == StepName.SPEED)
    assert speed.setting == Setting("gates.speed-up", "1.02")
    for config in ({"gates": {"speed-up": 1.02}}, {"gates": {"speed-up": False}}, {"speed": {"engines": []}}):
        assert speed not in prepare("demo", tmp_path, config_from(config)).missing
    with errors.refused("gate-not-judged", "fail_on", AuditError):
        prepare("demo", tmp_path, config_from({}), fail_on="speed-up")


def test_the_disk_told_holds_everything_that_may_be_written(tmp_path: Path):
    """Two rankings' candidates, trained ones, the search's, and an export of each and of the unpruned model."""
    given = {
        "budgets": {"layers": [2, 6], "shares": []},
        "search": {"gate": "perplexity-rise"},
        "recovery": {"enabled": True, "from_share": 0.1},
        "speed": {"engines": ["llamacpp"]},
    }
    plan = prepare("demo", tmp_path / "audit", config_from(given))
    assert (plan.candidates, plan.further_candidates, plan.trained_per_ranking) == (3, 3, 3)
    said = list(outline(plan, list(parts(plan, lambda passes: 0.0))))[-1]
    written = 3 + 3 + 3 + 3 + 1
    assert f"takes up to {bytes_for_people((2 * written + 1) * plan.layout.nbytes)} of disk" in said


def test_the_plan_is_told_before_anything_is_done(tmp_path: Path):
    plan = prepare("demo", tmp_path / "audit", config_from(quick()))
    # A token takes 10 ms, whatever is done with it.
    work = list(parts(plan, lambda passes: sum(n * one.tokens * one.batch for one, n in passes.items()) / 100))
    lines = list(outline(plan, work))
    assert lines[0].startswith("rank the layers 6 times: gate-norm, cosine@random, cosine@self, weight-magnitude, ")
    assert lines[1].startswith("write 2 candidates")
    # Read at random, and read and written by itself: 8 samples of 256 tokens each.
    assert work[0].seconds == 3 * 8 * 256 / 100
    search = config_from(quick(), {"rankings": {"criteria": ["leave-one-out@random", "leave-one-out-linear@random"]}})
    jobs = next(parts(prepare("demo", tmp_path / "audit", search), lambda passes: sum(passes.values()))).jobs
    assert [one.seconds for one in jobs[:2]] == [8 * 17, 8 * 3]  # a pass a layer; of maps on an eighth of the tokens
    recall = next(part for part in work if "recall" in part.what)
    assert recall.shorter == Setting("evaluation.retrieval", "off")
    assert lines[2].endswith("(limit 8); about 3 min")  # 8 stories, by the model, 2 candidates and 6 rankings' choices
    assert "prompts of 128, 256 tokens, 6 rounds" in lines[-3]
    assert "if another ranking is better supported" in lines[-2]
    assert lines[-1].startswith("takes up to 19.6 MB of disk (")
    assert " of memory (" in lines[-1]
    assert longest(work) == max(work, key=lambda part: part.seconds)
    assert longest(work[:0]) is None


def test_training_is_reckoned_by_its_objective(tmp_path: Path):
    def trains(**more: Any) -> float:
        recovery = {"enabled": True, "steps": 10, "from_share": 0.1, **more}
        plan = prepare("demo", tmp_path / "audit", config_from(quick(), {"recovery": recovery}))
        work = list(parts(plan, lambda passes: sum(passes.values())))
        return next(one.seconds for one in work[-1].jobs if one.like == RECOVER)

    assert (trains(), trains(objective="distill")) == (30.0, 40.0)


def test_the_memory_told_counts_all_that_is_loaded_at_a_time(tmp_path: Path):
    def told(*more: Mapping[str, Any], vocabulary: int | None = None) -> int:
        plan = prepare("demo", tmp_path / "audit", config_from(quick(), {"speed": {"engines": []}}, *more))
        if vocabulary is not None:
            plan.layout.checkpoint.config["vocab_size"] = vocabulary
        return memory(plan)

    removed = {"budgets": {"replace": ["remove"]}}
    weights = 4 * Architecture.of(open_model("demo")).parameters
    one = told(removed, vocabulary=1)
    assert one > 400e6 + weights  # what PyTorch and the rest take before any model
    assert told(removed, {"run": {"dtype": "bfloat16"}}, vocabulary=1) == one - weights // 2
    # 16 rows of which each has no more than its share of half a gigabyte of logits, which are there three times.
    assert 1e9 < told(vocabulary=200_000) - one <= 3 * (512 << 20)
    assert told({"budgets": {"replace": ["linear"]}}, vocabulary=1) > one
    two, three = (told({"speed": {"engines": ["transformers"], "side_by_side": n}}) for n in (2, 3))
    assert three - two > 380e6 + weights
    # No more are timed than there are.
    assert told({"speed": {"engines": ["transformers"], "side_by_side": 50}}) < 10 * three


def test_the_setting_that_shortens_a_part_is_one_that_is_shorter(tmp_path: Path):
    few, many = (
        prepare("demo", tmp_path / "audit", config_from({"evaluation": {"zeroshot_limit": n}})) for n in (10, 60)
    )
    settings = [next(p.shorter for p in parts(plan, lambda _: 0.0) if "tasks" in p.what) for plan in (few, many)]
    assert settings == [None, Setting("evaluation.zeroshot_limit", "30")]


def test_items_of_several_steps_are_asked_of_models_that_read_ordinary_text(tiny_models: Any, tmp_path: Path):
    reads = Path(shutil.copytree(tiny_models("llama-mha"), tmp_path / "reads"))
    (reads / "tokenizer.json").write_text("{}")

    def asked(model: Any, **settings: Any) -> tuple[list[int | None], list[str]]:
        planned, missing = evaluations(open_model(model), Evaluation(**settings), runs=True)
        limits = [one.options.limit for one in planned if one.gate_evaluation == "multistep"]
        return limits, [one.how for one in missing if "several steps" in one.what]

    assert asked(reads) == ([None], [])
    assert asked(reads, multistep_limit=7) == ([7], [])
    assert asked(reads, **quick()["evaluation"]) == ([8], [])
    assert asked(reads, multistep=False) == ([], ["set evaluation.multistep to on"])
    assert asked(tiny_models("llama-mha")) == ([], [])
    assert asked("demo") == ([], [])
    assert config_from(overlay({"multistep": False})).evaluation.multistep is False


def test_what_another_package_declares_of_its_evaluation_is_all_that_an_audit_needs(monkeypatch: pytest.MonkeyPatch):
    known = registry.tasks()
    job = Job("mine", "mine", "items", {}, lambda model, progress: None)
    own = Task(
        "mine",
        lambda request: [job],
        name="mine",
        audit=AuditRole(step=StepName.REFUSAL_AND_RETRIEVAL),
        last_logits=True,
    )
    monkeypatch.setattr(registry, "tasks", lambda: {**known, "mine": own})
    planned, _ = evaluations(open_model("demo"), Evaluation(others=("mine",)), runs=True)
    one = next(one for one in planned if one.gate_evaluation == "mine")
    assert (one.step, one.last_logits, one.options.limit) == (StepName.REFUSAL_AND_RETRIEVAL, True, None)
    assert asked_by("mine").words() == "set evaluation.others to a list with mine"
    assert asked_by("zeroshot").words() == "set evaluation.zeroshot to a directory, or to hub"


@pytest.mark.parametrize("asked", [{"zeroshot": "hub"}, {"texts": ("wikitext2",)}, {"refusal": "items.jsonl"}])
def test_what_is_asked_of_a_model_that_cannot_be_run_is_refused(asked: dict[str, Any]):
    with errors.refused("model-cannot-run", "", EvaluationError):
        evaluations(open_model("demo"), Evaluation(**asked), runs=False)
    planned, missing = evaluations(open_model("demo"), Evaluation(refusal="packaged"), runs=False)
    assert (planned, [gap.what for gap in missing]) == ([], ["everything that needs the model to run"])


def test_a_file_may_be_called_like_a_value_of_another_key(tiny_models: Any, tmp_path: Path):
    with errors.refused("data-missing", "data", EvaluationError) as caught:
        evaluations(open_model(tiny_models("llama-mha")), Evaluation(domain="packaged"), runs=True)
    assert "evaluation.domain packaged" in caught.value.text()


def test_a_processor_is_not_kept_busy_for_hours_by_long_contexts(tiny_models: Any, monkeypatch: pytest.MonkeyPatch):
    layout = replace(open_model(tiny_models("llama-mha")), context=4096)
    reads = 2 * Architecture.of(layout).parameters * retrieval.tokens_up_to(1024)
    monkeypatch.setattr(planned_evaluations, "_FLOPS_A_THREAD", reads)

    def asked(threads: int | None, **settings: Any) -> tuple[int | None, list[str]]:
        planned, missing = evaluations(layout, Evaluation(**settings), runs=True, threads=threads)
        (window,) = (one.options.window for one in planned if one.gate_evaluation == "retrieval")
        return window, [one.how for one in missing if "beyond" in one.what]

    shorter = "set evaluation.retrieval_window to 4096"
    assert asked(1) == (1024, [shorter])
    assert asked(3) == (2048, [shorter])  # three times the work is more than twice the length
    assert asked(None) == (4096, [])
    assert asked(1, retrieval_window=4096) == (4096, [])


def test_operations_that_are_asked_for_are_tried_at_every_budget(tmp_path: Path):
    config = config_from(overlay({"replace": ("linear:8", "remove"), "fit": ("generic", "self")}))
    prepared = prepare("demo", tmp_path / "audit", config)
    assert {b.operations for b in prepared.budgets} == {("linear:8", "remove")}
    assert [m.what for m in prepared.missing] == ["your own workload", UNJUDGED]
    assert config.budgets.fit == ("generic", "self")


def test_every_model_but_those_of_a_language_of_their_own_has_the_default_at_every_budget(tiny_models: Any):
    layout = open_model(tiny_models("llama-mha"))
    found = [Budget(1, "practical"), Budget(2, "aggressive")]
    assert with_operations(found, layout, None, runs=True) == ([replace(b, operations=OPERATIONS) for b in found], [])
    budgets, missing = with_operations(found, layout, None, runs=False)
    assert budgets == found
    assert [m.what for m in missing] == ["linear in place of attentions"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("budgets: " + "[" * 2000 + "]" * 2000, "nested too deeply"),
        ("a: &a [x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nbudgets: [*c, *c]", "uses an alias"),
        ("budgets: &again\n  shares: *again", "uses an alias"),
        ("x: " + "y" * (1 << 18), "larger than 262,144 bytes"),
        ("a: !" + "y" * 100_000 + " x", "constructor for the tag"),
        ("run: {threads: 1e30}", "a whole number"),
        ('"\\ud800": 1', "half a surrogate pair"),
        ("run: {threads: 99999999999999999999}", "<= 4096"),
        ("run: {seed: 9223372036854775808}", "<= 9223372036854775807"),
        ("\ud800".encode("utf-8", "surrogatepass"), "can't decode"),
        ("a: !!python/object/apply:os.system [true]", "constructor for the tag"),
        ("a: !!bool x", "not what its tag says"),
        ("a: !!timestamp x", "not what its tag says"),
        ("a: !!int ''", "not what its tag says"),
        ("run: {threads: 0x" + "F" * 9000 + "}", "a number that is too long"),
        ("run: {threads: 1" + ":59" * 300 + ".5}", "a number that is too long"),
    ],
)
def test_yaml_that_would_take_too_much_is_one_short_line(text: str | bytes, why: str, tmp_path: Path):
    path = tmp_path / "audit.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(GatenormError) as caught:
        read_config(path)
    assert why in caught.value.text()
    assert len(caught.value.text()) < 600
    assert caught.value.text().isprintable()


def test_packaged_text_stands_in_where_no_text_is_given(shared: Path, tmp_path: Path):
    model = str(shared / "models" / "stories3M")
    prepared = prepare(model, tmp_path / "audit", config_from(quick()))
    packaged = next(one for one in prepared.evaluations if one.gate_evaluation == "perplexity")
    assert (packaged.data, packaged.options.window, packaged.options.limit) == (("generic",), 512, 16)
    assert packaged.options.spread is False
    spread = prepare(model, tmp_path / "spread", config_from(quick(), overlay({"spread": True})))
    assert [one.options.spread for one in spread.evaluations if one.gate_evaluation == "perplexity"] == [True]
    assert "perplexity-rise" in prepared.limits
    assert [one.name for one in prepared.rankings if one.check] == [
        "cosine@generic",
        "cosine@random",
        "cosine@self",
        "norm-ratio@generic",
        "weight-magnitude",
    ]
    assert "perplexity on text like yours" in [one.what for one in prepared.missing]
    # What a variant was trained on does not judge it.
    trained = config_from(quick(), {"recovery": {"enabled": True, "data": "generic,self"}})
    assert "perplexity-rise" not in prepare(model, tmp_path / "audit", trained).limits
    # A text of one's own takes its place.
    own = config_from(quick(), {"evaluation": {"texts": [str(shared / "data" / "wikitext-2" / "wiki.test.raw")]}})
    texts = [
        one.data for one in prepare(model, tmp_path / "audit", own).evaluations if one.gate_evaluation == "perplexity"
    ]
    assert [Path(data[0]).name for data in texts] == ["wiki.test.raw"]


def test_without_a_tokenizer_no_text_can_stand_in(tiny_models: Any, tmp_path: Path):
    prepared = prepare(str(tiny_models("llama-mha")), tmp_path / "audit", config_from(quick()))
    assert not [one for one in prepared.evaluations if one.gate_evaluation == "perplexity"]
    assert [one.name for one in prepared.rankings if one.check] == ["cosine@random", "cosine@self", "weight-magnitude"]
