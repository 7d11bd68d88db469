"""Ray and this process find the same, and a worker that dies is replaced."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from gatenorm.api import open_model
from gatenorm.audit.main import run_audit
from gatenorm.audit.plan.config import Config, Run
from gatenorm.audit.plan.prepare import AuditPlan
from gatenorm.audit.run.executors import RayExecutor
from gatenorm.audit.run.job_cache import JobCache
from gatenorm.audit.run.jobs import Score
from gatenorm.audit.run.progress import Reporter
from gatenorm.audit.state import State
from tests.audit.audits import differences, figures, small
from tests.errors import refused

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


def test_what_runs_alone_beside_ray_leaves_the_threads_as_they_were(tmp_path: Path):
    torch = pytest.importorskip("torch")
    plan = AuditPlan(open_model("demo"), Config(), tmp_path, 1, True, [], [], [], {}, [])
    cache = JobCache(plan, State(tmp_path), RayExecutor(Run(executor="ray"), threads=1), Reporter(None))
    job = Score(title="a test", like="", model="nowhere", content="0", threads=1, criterion="gate-norm", seed=0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (result,) = cache.run([job], alone=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert "nowhere" in result.error


def test_ray_leaves_nothing_of_its_own_behind(monkeypatch: pytest.MonkeyPatch):
    import ray

    monkeypatch.delenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", raising=False)
    before, printer = dict(os.environ), importlib.import_module("ray._private.worker")
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with RayExecutor(Run(executor="ray"), threads=1):
        assert os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] == "0"
        assert printer._worker_logs_enabled is False
    assert dict(os.environ) == before
    assert printer._worker_logs_enabled is True

    def unreachable(**_: object) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray, "init", unreachable)
    with refused("ray-unreachable", "run.ray_address"), RayExecutor(Run(executor="ray"), threads=1):
        pass
    assert dict(os.environ) == before


def test_ray_and_this_process_agree_to_the_last_digit(tmp_path: Path):
    """Threads pinned alike; everything but timings is compared, and a worker is killed on the way."""
    import ray

    few = {
        "budgets": {"shares": [0.125]},
        "rankings": {"criteria": ["gate-norm"]},
        "search": {"gate": None},
        "evaluation": {"stories_limit": 1, "zeroshot_limit": 1, "refusal": "none", "retrieval": False},
    }
    run_audit("demo", tmp_path / "local", small(**few))
    with RayExecutor(Run(executor="ray"), threads=1) as executor:
        assert ray.cluster_resources()["CPU"] >= 1
        # A worker that dies once is replaced: the first attempt ends itself and leaves a mark.
        mark = tmp_path / "died"
        dies = ray.remote(_dies_once).options(num_cpus=1, max_retries=1)
        assert ray.get(dies.remote(str(mark))) == "alive"
        assert mark.exists()
        asked = Score(title="a test", like="", model="nowhere", content="0", threads=1, criterion="gate-norm", seed=0)
        ((_, result),) = executor.run([asked])
        assert "nowhere" in result.error
        run_audit("demo", tmp_path / "ray", small(**few, run={"executor": "ray"}))
    assert differences(figures(tmp_path / "local"), figures(tmp_path / "ray")) == []


def _dies_once(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        os._exit(1)
    return "alive"
