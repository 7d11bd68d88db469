"""Jobs: what they are identified by, and what their records say of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import gatenorm
from gatenorm.audit.plan.config import Config
from gatenorm.audit.plan.prepare import prepare
from gatenorm.audit.run.executors import LocalExecutor
from gatenorm.audit.run.job_cache import JobCache
from gatenorm.audit.run.job_runner import JobRunner
from gatenorm.audit.run.jobs import Evaluate, Score
from gatenorm.audit.run.progress import Reporter
from gatenorm.audit.state import State
from gatenorm.engines import engines
from gatenorm.evaluation.core import registry
from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.evaluation.core.task import Task
from gatenorm.extensions import working
from gatenorm.records import Edit, Edits
from gatenorm.records.audit import StepName
from gatenorm.records.evidence import Measured, PairedEvidence
from gatenorm.results import fingerprint


def evaluation(model: Path | str, **changes: Any) -> Evaluate:
    job = Evaluate(
        title="stories",
        like="stories",
        model=str(model),
        content="0",
        threads=1,
        edits=Edits.of("attention", [2]),
        in_memory=True,
        recovery=None,
        key=["stories"],
        task="stories",
        data=(),
        options=TaskOptions(limit=1),
        baseline=None,
        device="cpu",
        dtype="auto",
        batch_size=None,
    )
    return replace(job, **changes)


def test_names_and_places_are_no_part_of_a_jobs_identity():
    job = evaluation("here")
    assert job.digest == evaluation("there", title="another", like="other").digest
    assert len({job.digest, *(evaluation("here", **{k: v}).digest for k, v in CHANGES.items())}) == 1 + len(CHANGES)
    score = Score(title="t", like="l", model="m", content="0", threads=1, criterion="depth", seed=0)
    assert score.digest != replace(score, seed=1).digest


def test_the_version_of_every_engine_is_part_of_it(monkeypatch: pytest.MonkeyPatch):
    """Whatever engine a time was measured in, another release of it may take another."""
    known = {kind.package: "1" for kind in working(engines()).values()}
    monkeypatch.setattr(fingerprint, "_installed", known.get)
    digests = {evaluation("here").digest}
    for package in sorted(known):
        known[package] = "2"
        digests.add(evaluation("here").digest)
    assert len(digests) == 1 + len(known)


CHANGES: dict[str, Any] = {
    "content": "1",
    "edits": Edits([Edit(2, "attention", "linear", "a")]),
    "in_memory": False,
    "recovery": "1",
    "key": [],
    "threads": 2,
}


def test_a_model_that_has_lost_mlps_is_recorded_with_all_its_edits(tmp_path: Path):
    """In memory a comparison removes attention too: its record says both, and so does what it is compared with."""
    pruned = gatenorm.prune("demo", tmp_path / "pruned", gatenorm.plan("demo", drop=[5], kind="mlp")).path
    for job in (evaluation(pruned), evaluation(pruned, task="abilities", options=TaskOptions(limit=1))):
        result = JobRunner().run(job)
        assert result.error == ""
        assert {(e.edits.attention, e.edits.mlp) for e in result.records} == {((2,), (5,))}
    (whole,) = JobRunner().run(evaluation(pruned, edits=Edits(), in_memory=False)).records
    assert (whole.edits.attention, whole.edits.mlp) == ((), (5,))


def test_a_workloads_record_says_what_its_baseline_lacks(tmp_path: Path):
    pruned = gatenorm.prune("demo", tmp_path / "pruned", gatenorm.plan("demo", drop=[5], kind="mlp")).path
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "First came Ida Fox. After Ida"}\n')
    job = evaluation(
        pruned, task="domain", data=(f"domain={prompts}",), options=TaskOptions(new_tokens=2), baseline=str(pruned)
    )
    result = JobRunner().run(job)
    assert result.error == ""
    (record,) = result.records
    assert (record.edits.attention, record.edits.mlp) == ((2,), (5,))
    assert (record.baseline_edits.attention, record.baseline_edits.mlp) == ((), (5,))  # type: ignore[attr-defined]


class Distance(PairedEvidence, frozen=True, kw_only=True, tag="test/distance/1"):
    """A comparing record whose noun is not the name of its evaluation."""


def test_of_an_evaluation_that_compares_every_comparing_record_is_kept(monkeypatch: pytest.MonkeyPatch):
    """And only these: what one model has by itself belongs to another evaluation."""
    jobs = [
        Job("distance", "distance", "models", {}, compare=lambda model, baseline, progress: Distance()),
        Job("alone", "alone", "models", {}, run=lambda model, progress: Measured(name="alone", value=1.0)),
    ]
    known = registry.tasks()
    own = Task("apart", lambda request: jobs, name="apart", compares=True)
    monkeypatch.setattr(registry, "tasks", lambda: {**known, "apart": own})
    result = JobRunner().run(evaluation("demo", task="apart", edits=Edits(), in_memory=False, baseline="demo"))
    assert (result.error, [type(record) for record in result.records]) == ("", [Distance])


def test_the_seconds_of_a_job_are_those_of_the_step_that_wanted_it_first(tmp_path: Path):
    plan = prepare("demo", tmp_path, Config())
    cache = JobCache(plan, State(tmp_path), LocalExecutor(), Reporter(None))
    job = cache.job(Score, "depth", "depth", criterion="depth")
    for step in (StepName.SCORE, StepName.TASKS):
        cache.begin(step)
        (result,) = cache.run([job])
        assert result.seconds > 0
    assert dict(cache.seconds) == {StepName.SCORE: result.seconds, StepName.TASKS: 0}
