"""The local definitions of the seven tasks against the harness's official ones, on the same documents."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gatenorm import api
from gatenorm.engines import engine_named
from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.evaluation.statistics import zeroshot_average
from gatenorm.evaluation.tasks import harness, zeroshot
from gatenorm.models.model import Model
from gatenorm.records import Edits
from gatenorm.records.evidence import Change, Comparison, Data, Figure, ZeroShot
from tests.errors import refused
from tests.evaluation.subjects import log_probabilities

DOCUMENTS = 150
ITEMS = 8
# Where lm-eval keeps the official task, and how its documents look on the hub.
LETTERS = "ABCDE"
Row = Mapping[str, Any]
OFFICIAL: dict[str, tuple[str, Callable[[Row], Row]]] = {
    "boolq": (
        "super_glue/boolq/default.yaml",
        lambda r: {"passage": r["passage"], "question": r["question"], "label": int(r["answer"])},
    ),
    "rte": ("glue/rte/default.yaml", lambda r: {k: r[k] for k in ("sentence1", "sentence2", "label")}),
    "winogrande": (
        "winogrande/default.yaml",
        lambda r: {k: r[k] for k in ("sentence", "option1", "option2", "answer")},
    ),
    "arc_easy": ("arc/arc_easy.yaml", lambda r: {"question": r["question"], **lettered(r)}),
    "arc_challenge": ("arc/arc_challenge.yaml", lambda r: {"question": r["question"], **lettered(r)}),
    "openbookqa": ("openbookqa/openbookqa.yaml", lambda r: {"question_stem": r["question"], **lettered(r)}),
    # From the cleaned query on: what stands before it is the official task's `process_docs`.
    "hellaswag": ("hellaswag/hellaswag.yaml", lambda r: {k: r[k] for k in ("query", "choices", "label")}),
}


def lettered(row: Row) -> Row:
    count = len(row["choices"])
    choices = {"text": row["choices"], "label": list(LETTERS[:count])}
    return {"choices": choices, "answerKey": LETTERS[row["label"]]}


def official(name: str, rows: list[Row]) -> Any:
    """lm-eval's own task over these documents instead of the hub's."""
    import lm_eval.tasks
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    path, convert = OFFICIAL[name]
    config = load_yaml(Path(lm_eval.tasks.__file__).parent / path)
    documents = Dataset.from_list([dict(convert(row)) for row in rows])
    splits = dict.fromkeys(("train", "validation", "test"), documents)
    for key in ("process_docs", "dataset_path", "dataset_name", "tag"):
        config.pop(key, None)
    return ConfigurableTask(config={**config, "custom_dataset": lambda **_: splits})


def rows_of(shared: Path, name: str, count: int | None = None) -> list[Row]:
    path = zeroshot.local_file(shared / "data/zeroshot", name)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:count]]


def requests(task: Any) -> list[list[tuple[str, str]]]:
    found = []
    for number, doc in enumerate(task.eval_docs):
        context = task.fewshot_context(doc, num_fewshot=0)
        made = task.construct_requests(doc=doc, ctx=context, metadata=("t", number, 1))
        found.append([instance.args for instance in made])
    return found


@pytest.mark.shared
@pytest.mark.parametrize("name", OFFICIAL)
def test_requests_and_verdicts_are_those_of_the_official_task(name: str, shared: Path):
    same_requests_and_verdicts(name, rows_of(shared, name, DOCUMENTS))


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.parametrize("name", OFFICIAL)
def test_requests_and_verdicts_of_every_document_are_those_of_the_official_task(name: str, shared: Path):
    same_requests_and_verdicts(name, rows_of(shared, name))


@pytest.mark.shared
@pytest.mark.parametrize("name", OFFICIAL)
def test_a_model_gets_item_by_item_what_the_official_task_gives_it(name: str, shared: Path):
    """A trained model answers both; the official task runs in the harness's own ``simple_evaluate``."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    subject = Model.of_layout(api.open_model(shared / "models/stories260K"), batch_size=8)
    (job,) = zeroshot.prepare(TaskOptions(data=str(shared / "data/zeroshot"), argument=name, limit=ITEMS))
    assert job.run is not None
    ours = job.run(subject, None)
    with harness.quiet():
        task = official(name, rows_of(shared, name, ITEMS))
        task.set_config(key="num_fewshot", value=0)
        found = lm_eval.simple_evaluate(
            model=engine_named("transformers").harness_model(subject),
            tasks=[task],
            task_manager=TaskManager(include_defaults=False),
        )
    samples = sorted(found["samples"][task.task_name], key=lambda sample: sample["doc_id"])
    metrics = zeroshot.tasks()[name]["metrics"]
    for item, sample in zip(ours.items, samples, strict=True):
        assert item.metrics == {metric: sample[metric] for metric in metrics}
        logs = [response[0] for response in sample["filtered_resps"]]
        assert item.loglikelihoods == pytest.approx([float(log) for log in logs], abs=1e-3)
    for metric in metrics:
        result = found["results"][task.task_name]
        assert ours.numbers()[metric] == pytest.approx(result[f"{metric},none"])
        assert ours.numbers()[f"{metric}_stderr"] == pytest.approx(result[f"{metric}_stderr,none"])


def same_requests_and_verdicts(name: str, rows: list[Row]) -> None:
    with harness.quiet():
        ours, theirs = zeroshot.local_task(name, rows), official(name, rows)
    assert requests(ours) == requests(theirs)
    assert ours.VERSION == theirs.VERSION
    assert set(ours.aggregation()) == set(theirs.aggregation()) == set(zeroshot.tasks()[name]["metrics"])
    draw = random.Random(5)
    for mine, official_doc, asked in zip(ours.eval_docs, theirs.eval_docs, requests(ours), strict=True):
        answers = [(-50 * draw.random(), False) for _ in asked]
        assert ours.process_results(mine, answers) == theirs.process_results(official_doc, answers)


def test_all_seven_are_there():
    assert set(zeroshot.tasks()) == set(OFFICIAL)


@pytest.mark.shared
def test_likelihoods_and_accuracy_are_those_of_a_plain_reckoning(shared: Path):
    """ARC-Easy on a trained model: every log-likelihood one sequence at a time, and the accuracies out of them."""
    subject = Model.of_layout(api.open_model(shared / "models/stories260K"))
    (job,) = zeroshot.prepare(TaskOptions(data=str(shared / "data/zeroshot"), argument="arc_easy", limit=12))
    assert job.run is not None
    found = job.run(subject, None)
    right, right_norm = [], []
    for row, item in zip(rows_of(shared, "arc_easy", 12), found.items, strict=True):
        prompt = f"Question: {row['question']}\nAnswer:"
        start = len(subject.encode([prompt])[0])
        logs = []
        for choice in row["choices"]:
            (ids,) = subject.encode([f"{prompt} {choice}"])
            rows = log_probabilities(subject.module, ids)
            logs.append(sum(float(rows[n - 1, ids[n]]) for n in range(start, len(ids))))
        assert item.loglikelihoods == pytest.approx(logs, abs=1e-3)
        best = max(range(len(logs)), key=logs.__getitem__)
        best_norm = max(range(len(logs)), key=lambda n: logs[n] / len(row["choices"][n]))
        right.append(best == row["label"])
        right_norm.append(best_norm == row["label"])
        assert item.metrics == {"acc": float(right[-1]), "acc_norm": float(right_norm[-1])}
    assert found.numbers()["acc"] == pytest.approx(sum(right) / 12)
    assert found.numbers()["acc_norm"] == pytest.approx(sum(right_norm) / 12)
    spread = sum((r - sum(right) / 12) ** 2 for r in right) / 11
    assert found.numbers()["acc_stderr"] == pytest.approx((spread / 12) ** 0.5)
    assert found.numbers()["chance"] == pytest.approx(0.25)
    assert found.protocol.bos is True
    assert found.data.split == "validation"


@pytest.mark.shared
def test_requests_longer_than_the_model_are_counted(shared: Path):
    subject = Model.of_layout(api.open_model(shared / "models/stories260K"))
    (job,) = zeroshot.prepare(TaskOptions(data=str(shared / "data/zeroshot"), argument="boolq", limit=3))
    assert job.run is not None
    found = job.run(subject, None)
    lengths = [
        len(ids)
        for row in rows_of(shared, "boolq", 3)
        for ids in subject.encode(
            [f"{row['passage']}\nQuestion: {row['question']}?\nAnswer: {a}" for a in ("no", "yes")]
        )
    ]
    assert found.protocol.items_cut_from_the_left == sum(n > 513 for n in lengths)


def test_data_that_are_not_there_are_asked_for(tmp_path: Path):
    with refused("task-file-missing", "data"):
        zeroshot.prepare(TaskOptions(data=str(tmp_path)))
    with refused("not-a-directory", "data"):
        zeroshot.prepare(TaskOptions(data=str(tmp_path / "none")))
    with refused("task-unknown", "tasks", EvaluationError) as caught:
        zeroshot.prepare(TaskOptions(data=str(tmp_path), argument="boolk"))
    assert "'boolq'" in caught.value.hint


def test_the_official_split_is_preferred(tmp_path: Path):
    for name in ("arc_easy_validation.jsonl", "arc_easy_test.jsonl", "rte_train.jsonl", "rte_dev.jsonl"):
        (tmp_path / name).write_text("")
    assert zeroshot.local_file(tmp_path, "arc_easy").name == "arc_easy_test.jsonl"
    with refused("task-file-twice", "data"):
        zeroshot.local_file(tmp_path, "rte")


@pytest.mark.parametrize(
    ("name", "row", "wrong"),
    [
        ("rte", {"sentence1": "a", "label": 0}, "'sentence2'"),
        ("rte", {"sentence1": "a", "sentence2": "b", "label": 2}, "label 2"),
        ("rte", {"sentence1": "a", "sentence2": " ", "label": 0}, "sentence2 ' '"),
        ("boolq", {"question": "q", "passage": "p", "answer": "yes"}, "answer 'yes'"),
        ("winogrande", {"sentence": "none", "option1": "a", "option2": "b", "answer": "1"}, "sentence 'none'"),
        ("winogrande", {"sentence": "a _", "option1": "a", "option2": "b", "answer": 1}, "answer 1"),
        ("openbookqa", {"question": "q", "choices": ["a", ""], "label": 0}, "choices"),
        ("openbookqa", {"question": "q", "choices": ["a", "b"], "label": 2}, "label 2"),
    ],
)
def test_damaged_lines_are_named(name: str, row: Row, wrong: str, tmp_path: Path):
    (tmp_path / f"{name}_validation.jsonl").write_text(json.dumps(row) + "\n")
    whole = {*zeroshot.tasks()[name]["fields"]} <= {*row}
    with refused("row-value-wrong" if whole else "row-field-missing", "data") as caught:
        zeroshot.prepare(TaskOptions(data=str(tmp_path), argument=name))
    assert wrong in caught.value.problem


def result(task: str, **figures: float) -> ZeroShot:
    metrics = {
        name: Figure(value=value, stderr=figures.get(f"{name}_stderr"))
        for name, value in figures.items()
        if not name.endswith("_stderr")
    }
    return ZeroShot(name=task, metrics=metrics, count=10, data=Data(sha256=task), seconds=1.0)


def test_the_average_says_which_metric_enters_it():
    one = result("boolq", acc=0.6, acc_stderr=0.03)
    two = result("arc_easy", acc=0.4, acc_stderr=0.05, acc_norm=0.5, acc_norm_stderr=0.04)
    found = zeroshot_average.average([one, two])
    assert found is not None
    assert found.numbers()["average"] == pytest.approx(0.55)
    assert found.numbers()["average_stderr"] == pytest.approx(0.025)
    assert found.numbers()["average_acc"] == pytest.approx(0.5)
    assert found.protocol.average == {"boolq": "acc", "arc_easy": "acc_norm"}
    assert zeroshot_average.average([one]) is None


def test_an_average_has_no_standard_error_where_that_of_a_task_is_unknown():
    found = zeroshot_average.average([result("a", acc=1.0), result("b", acc=0.5, acc_stderr=0.1)])
    assert found is not None
    assert found.numbers()["average"] == 0.75
    assert "average_stderr" not in found.numbers()


def test_the_average_change_combines_the_tasks():
    average = zeroshot_average.average(
        [result("a", acc=0.6, acc_stderr=0.03), result("b", acc=0.4, acc_stderr=0.05)],
    )
    assert average is not None

    def change(task: str, difference: float, half: float) -> Comparison:
        found = Change(difference=difference, items=10, low=difference - half, high=difference + half)
        return Comparison(
            of="zeroshot",
            name=task,
            baseline=average.model,
            baseline_edits=Edits(),
            interval="",
            changes={"acc": found},
        )

    found = zeroshot_average.average_difference([change("a", -0.1, 0.03), change("b", -0.2, 0.04)], average)
    assert found is not None
    change_of_average = found.changes["average"]
    assert change_of_average.difference == pytest.approx(-0.15)
    assert change_of_average.low == pytest.approx(-0.15 - 0.025)
    assert change_of_average.high == pytest.approx(-0.15 + 0.025)
    assert zeroshot_average.average_difference([change("a", -0.1, 0.03)], average) is None
