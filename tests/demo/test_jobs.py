"""The built-in model's own tasks as jobs: the same figures as its evaluation, and what changes with pruning."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatenorm import api
from gatenorm.demo import eval_tasks as jobs, evaluation
from gatenorm.demo.tasks import ALL_KINDS
from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.models.model import Model


def test_jobs_give_what_the_evaluation_gives():
    records = api.evaluate("demo", "refusal", request=TaskOptions(limit=6))
    kinds = [kind for kind in ALL_KINDS if kind.name.startswith("refusal")]
    model = Model.of_layout(api.open_model("demo"), dtype="float32")
    assert len(records) == len(kinds) > 0
    for kind, record in zip(kinds, records, strict=True):
        expected = evaluation.task(model, kind, 6)
        for name in ("accuracy", "chance", "items", "probability", "log_probability", "margin"):
            assert record.numbers()[name] == pytest.approx(expected.numbers()[name])
        assert record.task == kind.name
        assert len(record.items) == 6


def test_what_half_of_the_attention_was_worth_is_reported(tmp_path: Path):
    """A difference that can be measured, with its interval, wherever the built-in model has got to."""
    out = api.prune("demo", tmp_path / "half", api.plan("demo", share=0.5)).path
    records = api.evaluate(out, "demo", baseline="demo", request=TaskOptions(limit=3))
    story, *changes = [r for r in records if r.kind == "comparison"]
    assert story.of == "perplexity"
    assert story.numbers()["nll_low"] <= story.numbers()["nll_difference"] <= story.numbers()["nll_high"]
    assert story.numbers()["nll_items"] == 3
    assert {c.task for c in changes} == {k.name for k in ALL_KINDS}
    assert all("accuracy_low" in c.numbers() and "log_probability_low" in c.numbers() for c in changes)
    before, after = (r.numbers()["nll"] for r in records if r.kind == "perplexity")
    assert after > before


def test_options_about_a_text_are_refused():
    with pytest.raises(EvaluationError) as error:
        jobs.everything(TaskOptions(window=64))
    assert (error.value.code, error.value.field) == ("demo-no-text", "window")
    assert [j.title for j in jobs.recall(TaskOptions())] == [k.name for k in ALL_KINDS if k.name.startswith("recall")]


def test_a_limit_counts_stories_and_items_of_every_kind():
    keys = [dict(job.key) for job in jobs.everything(TaskOptions(limit=3))]
    assert keys[0] == {"stories": 3}
    assert [key["count"] for key in keys[1:]] == [3] * len(ALL_KINDS)
    assert dict(jobs.everything(TaskOptions())[0].key) == {"stories": evaluation.STORIES}
