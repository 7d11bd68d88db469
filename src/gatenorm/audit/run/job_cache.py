"""Jobs are looked up in the state, run where they are not there, and kept."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from gatenorm.audit.plan.evaluations import PlannedEvaluation
from gatenorm.audit.plan.prepare import AuditPlan
from gatenorm.audit.run.executors import Executor, LocalExecutor
from gatenorm.audit.run.jobs import Evaluate, Job, Result
from gatenorm.audit.run.progress import Reporter
from gatenorm.audit.state import State
from gatenorm.records import Edits
from gatenorm.records.audit import StepName
from gatenorm.surgery.disk import RECOVERY_FILE

J = TypeVar("J", bound=Job)
NO_EDITS = Edits()


class JobCache:
    """All results of one audit, whenever they were measured; ``seconds`` says by step how long they took."""

    def __init__(self, plan: AuditPlan, state: State, executor: Executor, reporter: Reporter):
        self.plan, self.layout, self.config = plan, plan.layout, plan.config
        self.state, self.executor, self.reporter = state, executor, reporter
        self.content = plan.layout.checkpoint.fingerprint()
        self.seconds: dict[StepName, float] = defaultdict(float)
        self.step = StepName.SCORE
        self._counted: set[str] = set()

    @property
    def source(self) -> str:
        """Where the unpruned model lies."""
        return str(self.layout.checkpoint.directory)

    def begin(self, step: StepName) -> None:
        """A step of the workflow begins; what follows counts as its time."""
        self.step = step
        self.reporter.step(step)

    def job(self, kind: type[J], title: str, like: str, **fields: Any) -> J:
        """A job on the hardware of the configuration; on the unpruned model unless ``fields`` name another."""
        run, names = self.config.run, kind.__struct_fields__
        hardware = {name: getattr(run, name) for name in ("device", "dtype", "seed", "batch_size") if name in names}
        common: dict[str, Any] = {"model": self.source, "content": self.content, "threads": self.plan.threads}
        return kind(title=title, like=like, **(common | hardware | fields))

    def evaluation(
        self, planned: PlannedEvaluation, name: str, directory: str | None = None, edits: Edits = NO_EDITS
    ) -> Evaluate:
        """One evaluation of one variant: of its directory, or (``None``) of the model with ``edits``."""
        return self.job(
            Evaluate,
            f"{planned.name}: {name}",
            planned.like,
            model=directory or self.source,
            edits=edits,
            in_memory=directory is None and bool(edits),
            recovery=None if directory is None else recovery_sha256(Path(directory)),
            key=planned.key,
            task=planned.task,
            data=planned.data,
            options=planned.options,
            baseline=self.source if planned.paired else None,
        )

    def run(self, jobs: Sequence[Job], *, alone: bool = False) -> list[Result]:
        """The results of jobs that the ledger does not expect yet; see :meth:`results`."""
        for job in jobs:
            self.reporter.ledger.expect(job.like)
        return self.results(jobs, alone=alone)

    def results(self, jobs: Sequence[Job], *, alone: bool = False) -> list[Result]:
        """The result of every job, in their order; equal ones run once.

        Args:
            alone: in this process and beside nothing else, as timings must be.

        Raises:
            OutputError: a result cannot be kept.
        """
        known: dict[str, Result] = {}
        missing: dict[str, Job] = {}
        for job in jobs:
            kept = None
            if job.digest not in missing and job.digest not in known:
                kept = self.state.results.get(job.fingerprint, Result) if job.kept else None
                if kept is None:
                    missing[job.digest] = job
                    continue
                known[job.digest] = kept
            self.reporter.done(job.title, job.like, None)
        if alone:
            self.executor.release()
        with LocalExecutor() if alone else nullcontext(self.executor) as executor:
            known |= self._carried_out(list(missing.values()), executor)
        # Equal jobs count once, in the step that wanted them first.
        self.seconds[self.step] += sum(known[digest].seconds for digest in known.keys() - self._counted)
        self._counted |= known.keys()
        return [known[job.digest] for job in jobs]

    def _carried_out(self, waiting: Sequence[Job], executor: Executor) -> dict[str, Result]:
        """The results of jobs by their digests, kept as soon as they are there."""
        done: dict[str, Result] = {}
        if waiting:
            self.reporter.work(waiting[0].title, waiting[0].like)
        for job, result in executor.run(waiting):
            self.layout.checkpoint.check_unchanged()
            # What one variant could not do may have been this machine's fault: it is tried again the next time.
            if job.kept and not result.error:
                self.state.results.put(job.fingerprint, result)
            done[job.digest] = result
            self.reporter.done(job.title, job.like, result.seconds)
            following = next((other for other in waiting if other.digest not in done), None)
            if following is not None:
                self.reporter.work(following.title, following.like)
        return done


def recovery_sha256(directory: Path) -> str | None:
    """The hash of a variant's record of its training; ``None`` of one that was only pruned."""
    record = directory / RECOVERY_FILE
    return hashlib.sha256(record.read_bytes()).hexdigest() if record.is_file() else None
