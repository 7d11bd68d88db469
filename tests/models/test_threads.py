"""The number of threads of whoever calls is theirs."""

from __future__ import annotations

import pytest
import torch
from threadpoolctl import threadpool_info

from gatenorm.api import open_model
from gatenorm.audit.run.job_runner import JobRunner
from gatenorm.audit.run.jobs import Job, Result, Score
from gatenorm.engines import Case, Setting
from gatenorm.models.threads import threads
from gatenorm.speed.measure.profile_report import profile_model
from tests.conftest import TinyModels

# Whatever a model brings along later has pools of its own.
POOLS = {pool["filepath"] for pool in threadpool_info()}


def used() -> tuple[int, list[int]]:
    return torch.get_num_threads(), [p["num_threads"] for p in threadpool_info() if p["filepath"] in POOLS]


def test_as_many_as_asked_for_inside_and_as_before_after_it():
    before = used()
    more = before[0] + 1
    with threads(more):
        assert torch.get_num_threads() == more
    assert used() == before
    with threads(None):
        assert used() == before


def test_a_profile_leaves_them(tiny_models: TinyModels):
    before, seen = used(), []
    layout, setting = open_model(tiny_models("llama-gqa")), Setting((Case(16, 1, 2),), threads=before[0] + 1)
    profile_model(layout, setting, rounds=1, progress=lambda *_: seen.append(torch.get_num_threads()))
    assert used() == before
    assert seen == [before[0]] * 2


def test_a_job_leaves_them(monkeypatch: pytest.MonkeyPatch):
    before, seen = used(), []

    def run(_: JobRunner, job: Job) -> Result:
        seen.append(torch.get_num_threads())
        return Result()

    monkeypatch.setattr(JobRunner, "_run", run)
    more = before[0] + 1
    JobRunner().run(Score(title="t", like="", model="m", content="0", threads=more, criterion="depth", seed=0))
    assert (seen, used()) == ([more], before)
