"""Jobs: what they are identified by, and what their records say of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import gatenorm
from gatenorm.audit.run.job_runner import JobRunner
from gatenorm.audit.run.jobs import Evaluate, Score
from gatenorm.engines import engines
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.extensions import working
from gatenorm.records import Edit, Edits
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
        protocol=["stories"],
        task="stories",
        data=(),
        request=TaskOptions(limit=1),
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
    "protocol": [],
    "threads": 2,
}


def test_a_model_that_has_lost_mlps_is_recorded_with_all_its_edits(tmp_path: Path):
    """In memory a comparison removes attention too: its record says both, and so does what it is compared with."""
    pruned = gatenorm.prune("demo", tmp_path / "pruned", gatenorm.plan("demo", drop=[5], kind="mlp")).path
    for job in (evaluation(pruned), evaluation(pruned, task="abilities", request=TaskOptions(limit=1))):
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
        pruned, task="domain", data=(f"domain={prompts}",), request=TaskOptions(new_tokens=2), baseline=str(pruned)
    )
    result = JobRunner().run(job)
    assert result.error == ""
    (record,) = result.records
    assert (record.edits.attention, record.edits.mlp) == ((2,), (5,))
    assert (record.baseline_edits.attention, record.baseline_edits.mlp) == ((), (5,))  # type: ignore[attr-defined]
