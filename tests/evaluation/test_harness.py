"""Tasks of lm-eval on a model in memory: scored and generated answers, quiet, and never on broken logits."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import random
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from gatenorm import api
from gatenorm.errors import EvaluationError, MissingExtraError
from gatenorm.evaluation.core import lm_eval
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.evaluation.core.likelihood import greedy
from gatenorm.evaluation.tasks import harness
from gatenorm.models.model import Model
from gatenorm.records.evidence import Data, Harness
from tests.errors import refused

DOCS = [{"q": "Once upon a time", "a": "there"}, {"q": "Tom had a", "a": "ball"}, {"q": "The", "a": "dog"}]


def task(kind: str, **more: Any) -> Any:
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    documents = Dataset.from_list(DOCS)
    with harness.quiet():
        return ConfigurableTask(
            config={
                "task": f"toy-{kind}",
                "custom_dataset": lambda **_: {"test": documents},
                "test_split": "test",
                "output_type": kind,
                "doc_to_text": "{{q}}",
                "doc_to_target": "{{a}}",
                **more,
            }
        )


@pytest.fixture(scope="module")
def subject(shared: Path) -> Model:
    return Model.of_layout(api.open_model(shared / "models/stories260K"))


def measured(subject: Model, made: Any, limit: int | None = None) -> Any:
    docs = harness.documents_of(made, limit)
    return harness.run_task(subject, made, Harness, harness.identity_of(made, docs), limit)


@pytest.mark.shared
def test_generated_answers_are_greedy(subject: Model, capsys: pytest.CaptureFixture[str]):
    made = task(
        "generate_until",
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        generation_kwargs={"until": ["\n\n"], "max_gen_toks": 6, "do_sample": False},
    )
    found = measured(subject, made)
    assert set(found.numbers()) == {"exact_match", "exact_match_stderr", "items"}
    assert found.numbers()["items"] == 3
    prompts = subject.encode([doc["q"] for doc in DOCS])
    for item, written in zip(found.items, greedy(subject, prompts, 6), strict=True):
        assert item.answers["answer"].strip() == subject.tokenizer.decode(written).strip()
    assert capsys.readouterr() == ("", "")


@pytest.mark.shared
def test_several_filters_are_metrics_of_one_document(subject: Model):
    def read_by(name: str, pattern: str) -> dict[str, Any]:
        steps = [{"function": "regex", "regex_pattern": pattern, "fallback": "none"}, {"function": "take_first"}]
        return {"name": name, "filter": steps}

    filters = [read_by("strict-match", "^(zzz)"), read_by("flexible-extract", r"([a-z]+)")]
    options: dict[str, Any] = {
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 6, "do_sample": False},
    }
    alone = measured(subject, task("generate_until", **options, filter_list=filters[:1]))
    assert set(alone.numbers()) == {"exact_match", "exact_match_stderr", "items"}
    assert alone.protocol.filters == ("strict-match",)
    first = measured(subject, task("generate_until", **options))
    words = [re.search("[a-z]+", item.answers["answer"]) for item in first.items]
    target = {"doc_to_target": str(words[0][0]) if words[0] else "nothing"}
    found = measured(subject, task("generate_until", **{**options, **target}, filter_list=filters))
    names = [f"exact_match_{name}{end}" for name in ("strict-match", "flexible-extract") for end in ("", "_stderr")]
    assert set(found.numbers()) == {*names, "items"}
    assert [item.id for item in found.items] == [0, 1, 2]
    assert found.numbers()["items"] == 3
    for name in ("strict-match", "flexible-extract"):
        mean = sum(item.metrics[f"exact_match_{name}"] for item in found.items) / 3
        assert found.numbers()[f"exact_match_{name}"] == pytest.approx(mean)
    assert found.items[0].metrics == {"exact_match_strict-match": 0.0, "exact_match_flexible-extract": 1.0}
    assert found.items[0].answers["answer_strict-match"] == "none"


@pytest.mark.shared
def test_a_limit_takes_the_first_documents(subject: Model):
    made = task("loglikelihood", metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}])
    seen: list[tuple[int, int]] = []
    found = harness.run_task(subject, made, Harness, Data(), 2, lambda done, total: seen.append((done, total)))
    assert [item.id for item in found.items] == [0, 1]
    assert seen[-1] == (2, 2)
    assert found.protocol.shots == 0


@pytest.mark.shared
def test_logits_that_are_not_finite_are_named(subject: Model):
    broken = copy.deepcopy(subject.module)
    with torch.no_grad():
        broken.model.norm.weight[0] = torch.nan
    made = task("loglikelihood", metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}])
    with refused("logits-not-finite", kind=EvaluationError):
        measured(Model.of_module(broken, subject.tokenizer), made)


def test_solved_examples_are_in_the_key(monkeypatch: pytest.MonkeyPatch):
    from datasets import Dataset

    def key(example: str, shots: int) -> dict[str, Any]:
        splits = {"test": Dataset.from_list(DOCS), "train": Dataset.from_list([{"q": "Lily", "a": example}] * 2)}
        more = {"custom_dataset": lambda **_: splits, "training_split": "train", "fewshot_split": "train"}
        made = task("generate_until", **more, num_fewshot=shots)
        monkeypatch.setattr(harness, "official", lambda _: [made])
        return dict(harness.prepare(TaskOptions(argument="toy"))[0].key)

    assert key("ran", 1) == key("ran", 1) != key("sat", 1)
    assert key("ran", 0) == key("sat", 0)


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["loglikelihood", "loglikelihood_rolling", "multiple_choice"])
def test_no_bar_of_lm_eval_is_shown(kind: str, subject: Model, capsys: pytest.CaptureFixture[str]):
    metric = "byte_perplexity" if kind == "loglikelihood_rolling" else "acc"
    more = {"doc_to_choice": ["there", "ball"], "doc_to_target": 0} if kind == "multiple_choice" else {}
    assert measured(subject, task(kind, metric_list=[{"metric": metric}], **more)).items
    assert capsys.readouterr() == ("", "")


def test_quiet_leaves_everything_as_it_was():
    import lm_eval.api.task

    logger = logging.getLogger("lm_eval")
    before = (lm_eval.api.task.tqdm, logger.level)
    with harness.quiet():
        assert logger.level == logging.ERROR
        with harness.alone():
            assert lm_eval.api.task.tqdm is not before[0]
        assert lm_eval.api.task.tqdm is before[0]
    assert (lm_eval.api.task.tqdm, logger.level) == before


@pytest.mark.shared
def test_standard_errors_by_bootstrap_are_drawn_here_and_in_silence(
    subject: Model, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """lm-eval would announce them on stdout, where results belong, and start a process a core."""
    monkeypatch.setattr(multiprocessing, "Pool", lambda *_: pytest.fail("processes were started"))
    found = measured(subject, task("loglikelihood", metric_list=[{"metric": "perplexity", "aggregation": "median"}]))
    assert capfd.readouterr() == ("", "")
    losses = [item.metrics["perplexity"] for item in found.items]
    draw = random.Random(0)
    medians = [statistics.median(draw.choices(losses, k=len(losses))) for _ in range(1000)]
    assert found.metrics["perplexity"].stderr == pytest.approx(statistics.stdev(medians))


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lm_eval.importlib.util, "find_spec", lambda name: None)
    with refused("missing-extra", kind=MissingExtraError) as caught:
        harness.prepare(TaskOptions(argument="gsm8k"))
    assert caught.value.args[-1] == "eval"


def test_names_that_are_near_are_offered():
    assert harness._nearest("gsm9k", ["gsm8k", "boolq"]) == "did you mean 'gsm8k'? `lm_eval ls tasks` lists 2 of them"
