"""Names of tasks, and which data belong to which."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.registry import assign_data, choose, prepare, tasks
from tests.errors import refused


def test_every_evaluation_is_a_file_that_says_how_it_is_judged():
    """Those of the demo come by entry points; a metric names the gate, the unit and the direction."""
    standard = [name for name, task in tasks().items() if not task.language]
    assert standard == ["perplexity", "zeroshot", "refusal", "retrieval", "domain", "multistep", "positions", "harness"]
    assert not any(";" in tasks()[name].what for name in standard)  # the help puts one between tasks
    judged = {task.metric.gate: (task.metric.unit, task.metric.limit) for task in tasks().values() if task.metric}
    assert judged == {
        "perplexity-rise": ("%", 6.0),
        "task-drop": ("points", 2.0),
        "refusal-flips": ("items", 0.0),
        "retrieval-loss": ("points", 5.0),
        "domain-divergence": ("nats", None),
        "multistep-loss": ("points", 10.0),
    }
    assert {name for name, task in tasks().items() if task.language == "demo"} >= {"demo", "stories"}


def test_tasks_are_chosen_by_name():
    chosen = choose("perplexity, zeroshot:boolq,harness:gsm8k,perplexity")
    assert [(t.name, a) for t, a in chosen] == [("perplexity", None), ("zeroshot", "boolq"), ("harness", "gsm8k")]


@pytest.mark.parametrize(
    ("names", "code", "expected", "nearest"),
    [
        ("perplexitty", "task-unknown", "", "'perplexity'"),
        ("", "task-unknown", "", ""),
        ("refusal:all", "task-argument", "refusal", ""),
        ("harness:", "task-argument", "harness:NAME", ""),
    ],
)
def test_unknown_names_get_one_line(names: str, code: str, expected: str, nearest: str):
    with refused(code, "tasks", EvaluationError) as caught:
        choose(names)
    assert (caught.value.given, caught.value.expected) == (names, expected)
    assert nearest in caught.value.hint


def test_data_find_their_task(tmp_path: Path):
    directory = str(tmp_path)
    for names, data, expected in [
        ("perplexity", ["a.txt"], {"perplexity": "a.txt"}),
        ("perplexity", ["wikitext2=a.raw"], {"perplexity": "wikitext2=a.raw"}),
        ("perplexity,zeroshot", [directory, "a.txt"], {"zeroshot": directory, "perplexity": "a.txt"}),
        ("perplexity,positions", ["a.txt"], {"perplexity": "a.txt", "positions": "a.txt"}),
        ("perplexity,domain", ["domain=b.jsonl", "perplexity=a"], {"perplexity": "a", "domain": "b.jsonl"}),
        ("refusal", ["mine.jsonl"], {"refusal": "mine.jsonl"}),
        ("perplexity,refusal", ["a.txt"], {"perplexity": "a.txt"}),
        ("perplexity,refusal", ["a.txt", "refusal=r.jsonl"], {"perplexity": "a.txt", "refusal": "r.jsonl"}),
    ]:
        assert assign_data(choose(names), data) == expected


@pytest.mark.parametrize(
    ("names", "data", "message"),
    [
        ("harness:gsm8k", ["a.txt"], "data-unused"),
        ("perplexity", ["domain=a.txt"], "data-unused"),
        ("perplexity", ["a.txt", "b.txt"], "data-twice"),
    ],
)
def test_data_without_a_task_are_refused(names: str, data: list[str], message: str):
    with refused(message, "data"):
        assign_data(choose(names), data)


def test_what_is_missing_is_said_before_anything_is_loaded(tmp_path: Path):
    with refused("baseline-missing", "baseline"):
        prepare("domain", [str(tmp_path / "a.jsonl")])
    with refused("data-missing", "data"):
        prepare("perplexity")
    with refused("task-argument", "tasks"):
        prepare("harness")


def test_loss_by_position_is_measured_once(tmp_path: Path):
    text = tmp_path / "t.txt"
    text.write_text("words")
    jobs = prepare("retrieval,positions", [str(text)])
    assert [j.kind for j in jobs] == ["retrieval", "retrieval", "positions"]
