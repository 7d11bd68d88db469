"""The built-in model's own tasks as jobs: the same figures as its evaluation, and what changes with pruning."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatenorm import api
from gatenorm.demo import evaluation, jobs
from gatenorm.demo.tasks import KINDS
from gatenorm.errors import EvaluationError
from gatenorm.evaluation.job import Request


def test_jobs_give_what_the_evaluation_gives():
    records = api.evaluate("demo", "refusal", request=Request(limit=6))
    kinds = [kind for kind in KINDS if kind.name.startswith("refusal")]
    model, tokenizer = api.load("demo"), None
    from gatenorm.demo import model_directory
    from gatenorm.runtimes.transformers import load_tokenizer

    tokenizer = load_tokenizer(model_directory())
    assert len(records) == len(kinds) > 0
    for kind, record in zip(kinds, records, strict=True):
        expected = evaluation.task(model.float(), tokenizer, kind, 6)
        for name in ("accuracy", "chance", "items"):
            assert record.figures[name] == pytest.approx(expected.figures[name])
        assert record.protocol["task"] == kind.name
        assert len(record.items) == 6


def test_what_half_of_the_attention_was_worth_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A difference that can be measured, with its interval, wherever the built-in model has got to."""
    monkeypatch.setattr(evaluation.evaluate, "__kwdefaults__", {"stories": 3, "count": 2})
    out = api.prune("demo", tmp_path / "half", api.plan("demo", share=0.5))
    records = api.evaluate(out, "demo", baseline="demo", request=Request(limit=2))
    changes = [r for r in records if r.kind == "comparison"]
    about_tasks = [c for c in changes if c.protocol["of"] == "demo-task"]
    assert {c.protocol["task"] for c in about_tasks} == {k.name for k in KINDS}
    assert all("accuracy_low" in c.figures for c in about_tasks)
    (about_stories,) = (c for c in changes if c not in about_tasks)
    assert about_stories.figures["nll_low"] > 0  # paired story by story
    before, after = (r.figures["nll"] for r in records if r.kind == "perplexity")
    assert after > before


def test_options_about_a_text_are_refused():
    with pytest.raises(EvaluationError, match="--window is about a text"):
        jobs.prepare(Request(window=64))
    assert [j.title for j in jobs.recall(Request())] == [k.name for k in KINDS if k.name.startswith("recall")]
