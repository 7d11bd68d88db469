"""What lies in the directory of a variant after the audit is resumed."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

import gatenorm
from gatenorm.audit.plan.budgets import Budget
from gatenorm.audit.plan.config import Config
from gatenorm.audit.plan.prepare import AuditPlan
from gatenorm.audit.run.executors import LocalExecutor
from gatenorm.audit.run.job_cache import JobCache
from gatenorm.audit.run.progress import Reporter
from gatenorm.audit.run.variant import planned_variant
from gatenorm.audit.run.variant_writer import build
from gatenorm.audit.state import State
from gatenorm.records import Scores
from gatenorm.records.audit import CANDIDATE
from gatenorm.records.plan import read_plan
from tests.conftest import TinyModels


def test_a_variant_tells_the_scores_of_this_run_and_is_written_once(tiny_models: TinyModels, tmp_path: Path):
    layout = gatenorm.open_model(tiny_models("llama-gqa"))

    def written(scores: Scores) -> Path:
        plan = AuditPlan(layout, Config(), tmp_path, 1, True, [], [], [], {}, [])
        variant = planned_variant(layout, scores, Budget(1, "asked"), (), CANDIDATE)
        build(JobCache(plan, State(tmp_path), LocalExecutor(), Reporter(None)), [variant])
        return tmp_path / variant.directory

    scores = gatenorm.score(layout, "depth")
    directory = written(scores)
    (directory / "mine").touch()
    assert written(scores) == directory
    assert (directory / "mine").exists()
    others = structs.replace(scores, notes=("computed otherwise",))
    assert read_plan(written(others) / "gatenorm.json").scores == others
    assert not (directory / "mine").exists()
