"""An audit from configuration to report: prepare, lock the directory, run the steps, write the results."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

from gatenorm.audit.plan.config import Config
from gatenorm.audit.plan.outline import longest, outline
from gatenorm.audit.plan.parts import reckoned
from gatenorm.audit.plan.prepare import prepare
from gatenorm.audit.run.executors import executor
from gatenorm.audit.run.job_cache import JobCache
from gatenorm.audit.run.progress import Listener, Reporter
from gatenorm.audit.run.workflow import Workflow
from gatenorm.audit.state import CONFIG_FILE, State, claim, lock, writing
from gatenorm.files import write_json
from gatenorm.models.named import default_model
from gatenorm.records.audit import Audit
from gatenorm.records.serialization import to_json


def default_directory(model: str) -> Path:
    """``./audit-<model name>``."""
    return Path(f"audit-{Path(model).name or 'model'}")


def run_audit(
    model: str | os.PathLike[str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    config: Config | None = None,
    *,
    fail_on: str | None = None,
    listener: Listener | None = None,
) -> Audit:
    """Audit a model: score, prune, measure, judge; ``audit.json`` in ``directory`` is the result, a report lies beside.

    The directory is the state: an audit that was stopped, however, goes on where it was, and nothing that was measured
    is measured again.

    Args:
        model: a directory, a model id of the hub, or the name of an installed model; by default the built-in one.
        directory: ``./audit-<model name>`` by default.
        config: what to do; :func:`gatenorm.audit.plan.config.read_config` reads one from a file.
        fail_on: a gate whose failure the caller will act on, or ``any``; checked here, judged by
            :func:`gatenorm.audit.judge.selection.failed`.
        listener: called with events, see :mod:`gatenorm.audit.run.progress`.

    Raises:
        AuditError: a gate without its evaluation, a directory that is another model's or in another process's hands.
        OutputError: no space left, or a place that cannot be written.
        GatenormError: a model, a criterion, data or an engine that cannot be had.
    """
    from gatenorm.audit.output.output import audit_of, write_audit

    name = default_model() if model is None else os.fspath(model)
    out = Path(directory) if directory is not None else default_directory(name)
    plan = prepare(name, out, config or Config(), fail_on)
    with lock(out), writing(out):
        state = State(out)
        state.clear()
        began = claim(out, plan.layout.identity(), version("gatenorm"))
        write_json(out / CONFIG_FILE, to_json(plan.config), parents=True)
        reporter = Reporter(listener)
        work = reckoned(plan)
        for part in work:
            for alike in part.jobs:
                reporter.ledger.foresee(part.step.number, alike.like, alike.jobs, alike.seconds)
        reporter.plan(list(outline(plan, work)), longest(work))
        with executor(plan.config.run, plan.threads) as workers:
            workflow = Workflow(JobCache(plan, state, workers, reporter))
            workflow.run()
        audit = audit_of(workflow, began, name)
        files = write_audit(audit, out)
        reporter.finished(audit.verdict.sentences, audit.chosen, [str(path) for path in files])
    return audit
