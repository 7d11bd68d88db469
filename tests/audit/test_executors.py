"""Ray and this process find the same, and a worker that dies is replaced."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from gatenorm.audit.plan.config import Run
from gatenorm.audit.run.main import run_audit
from tests.audit.audits import differences, figures, small

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


def test_ray_and_this_process_agree_to_the_last_digit(tmp_path: Path):
    """Threads pinned alike; everything but timings is compared, and a worker is killed on the way."""
    import ray

    from gatenorm.audit.run.executors import RayExecutor
    from gatenorm.audit.run.jobs import Score

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
