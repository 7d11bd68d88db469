"""Exports: where each model's lies, whatever the audited model is called."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from gatenorm import api
from gatenorm.audit.plan.config import config_from
from gatenorm.audit.plan.prepare import AuditPlan
from gatenorm.audit.plan.variants import Budget, Variant
from gatenorm.audit.run import speed
from gatenorm.audit.run.executors import LocalExecutor
from gatenorm.audit.run.job_cache import JobCache
from gatenorm.audit.run.jobs import Export, Job, Result
from gatenorm.audit.run.progress import Reporter
from gatenorm.audit.run.state import State
from gatenorm.records import Edits, Plan


class Noting(JobCache):
    """Carries nothing out: every export is there at once, and what was ordered is kept."""

    def results(self, jobs: Sequence[Job], *, alone: bool = False) -> list[Result]:
        self.ordered = {job.model: Path(job.out) for job in jobs if isinstance(job, Export)}
        for model, out in self.ordered.items():
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(model)
        return [Result(error="timed elsewhere") for _ in jobs]


def test_a_model_called_like_a_variant_takes_nothing_of_it(tmp_path: Path):
    model = tmp_path / "gate-norm-2"
    shutil.copytree(api.open_model("demo").checkpoint.directory, model)
    config = config_from({"speed": {"engines": ["llamacpp"]}})
    layout, state = api.open_model(str(model)), State(tmp_path / "audit")
    plan = AuditPlan(layout, config, state.directory, 1, True, [], [], [], {}, [])
    cache = Noting(plan, state, LocalExecutor(), Reporter(None))
    made_of = Plan(layout.identity(), Edits.of("attention", (13, 15)), "gate-norm")
    pruned = Variant("gate-norm-2", "gate-norm", Budget(2, ""), made_of, directory="variants/gate-norm-2")
    recovered = Variant("gate-norm-2-recovered", "gate-norm", Budget(2, ""), made_of, directory="recovered/gate-norm-2")
    exports = state.directory / "exports"
    speed.measure(cache, [pruned], [])
    first = cache.ordered
    assert first[str(model)] == exports / "unpruned.gguf"
    assert first[str(state.directory / pruned.directory)] == exports / "gate-norm-2.gguf"
    speed.measure_recovered(cache, [recovered], [])
    assert cache.ordered[str(model)] == exports / "unpruned.gguf"
    assert (exports / "gate-norm-2.gguf").read_text() == str(state.directory / pruned.directory)
