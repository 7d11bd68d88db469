"""Exports: where each model's lies, whatever the audited model is called."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from gatenorm import api, engines
from gatenorm.audit.plan.budgets import Budget
from gatenorm.audit.plan.config import config_from
from gatenorm.audit.plan.parts import EXPORT, parts
from gatenorm.audit.plan.prepare import AuditPlan, prepare
from gatenorm.audit.run import speed
from gatenorm.audit.run.executors import LocalExecutor
from gatenorm.audit.run.job_cache import JobCache
from gatenorm.audit.run.jobs import Export, Job, Result
from gatenorm.audit.run.progress import Reporter
from gatenorm.audit.run.variant import Variant
from gatenorm.audit.state import State
from gatenorm.engines import Engine, Setting, TimedSession
from gatenorm.errors import EvaluationError
from gatenorm.extensions import Extension
from gatenorm.records import Edits, Plan
from tests.errors import refused


class Noting(JobCache):
    """Carries nothing out: every export is there at once, and what was ordered is kept."""

    ordered: ClassVar[dict[str, Path]] = {}
    forms: ClassVar[set[str]] = set()

    def results(self, jobs: Sequence[Job], *, alone: bool = False) -> list[Result]:
        exports = [job for job in jobs if isinstance(job, Export)]
        self.ordered = {job.model: Path(job.out) for job in exports} or self.ordered
        self.forms = {job.to for job in exports} or self.forms
        for model, out in self.ordered.items():
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(model)
        return [Result(error="timed elsewhere") for _ in jobs]


def noting(model: str, engine: str, directory: Path) -> Noting:
    """The cache of an audit with one engine."""
    config = config_from({"speed": {"engines": [engine]}})
    plan = AuditPlan(api.open_model(model), config, directory, 1, True, [], [], [], {}, [])
    return Noting(plan, State(directory), LocalExecutor(), Reporter(None))


class Reads(Engine):
    """An engine of another package, for a form that is a directory."""

    package, extra, reads = "torch", "torch", ("another-form", "nemotron-nas")

    def open_timed(self, path: Path, setting: Setting) -> TimedSession:
        raise NotImplementedError


def test_any_engine_is_given_the_form_that_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    added = Extension("reads", "another_package:Reads", lambda: Reads, Engine, classes=True, package="another-package")
    both = {**engines.engines(), "reads": added}
    monkeypatch.setattr(engines, "engines", lambda: both)
    cache = noting("demo", "reads", tmp_path / "audit")
    pruned = Variant(
        "gate-norm-2",
        "gate-norm",
        Budget(2, ""),
        Plan(cache.layout.identity(), Edits.of("attention", (13, 15)), "gate-norm"),
        directory="variants/gate-norm-2",
    )
    missing, _ = speed.measure(cache, [pruned], [])
    exports = cache.state.directory / "exports"
    assert set(cache.ordered.values()) == {exports / f"{name}.nemotron-nas" for name in ("unpruned", "gate-norm-2")}
    assert cache.forms == {"nemotron-nas"}
    assert "export and verify" not in [gap.what for gap in missing]
    plan = prepare("demo", tmp_path / "other", config_from({"speed": {"engines": ["reads"]}}))
    assert "verify" in plan.limits
    assert EXPORT in [one.like for part in parts(plan, lambda _: 1.0) for one in part.jobs]


def test_an_engine_that_reads_nothing_that_is_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Reads, "reads", ("another-form",))
    added = Extension("reads", "another_package:Reads", lambda: Reads, Engine, classes=True, package="another-package")
    monkeypatch.setattr(engines, "engines", lambda: {"reads": added})
    with refused("form-unread", "engine", EvaluationError):
        prepare("demo", tmp_path / "audit", config_from({"speed": {"engines": ["reads"]}}))


def test_a_model_called_like_a_variant_takes_nothing_of_it(tmp_path: Path):
    model = tmp_path / "gate-norm-2"
    shutil.copytree(api.open_model("demo").checkpoint.directory, model)
    cache = noting(str(model), "llamacpp", tmp_path / "audit")
    layout, state = cache.layout, cache.state
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
