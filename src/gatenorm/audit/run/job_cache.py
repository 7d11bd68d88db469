"""Jobs are looked up in the state, carried out where they are not there, and kept."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from gatenorm.audit.plan.config import Config
from gatenorm.audit.plan.evaluations import Asked
from gatenorm.audit.run.executors import Executor
from gatenorm.audit.run.executors.local import LocalExecutor
from gatenorm.audit.run.jobs import Evaluate, Job, Result
from gatenorm.audit.run.progress import Reporter
from gatenorm.audit.run.state import State
from gatenorm.errors import AuditError
from gatenorm.families import Layout
from gatenorm.records.evidence import Measurements
from gatenorm.surgery.disk import RECOVERY_FILE


class Measuring:
    """All results of one audit, whoever measured them when; ``seconds`` says by step what they took."""

    def __init__(
        self,
        layout: Layout,
        content: str,
        config: Config,
        threads: int,
        state: State,
        executor: Executor,
        reporter: Reporter,
    ):
        self.layout, self.content, self.config, self.threads = layout, content, config, threads
        self.state, self.executor, self.reporter = state, executor, reporter
        self.seconds: dict[int, float] = defaultdict(float)
        self.step = 0

    def begin(self, step: int, name: str) -> None:
        """A step of the workflow begins: what follows is put down to it."""
        self.step = step
        self.reporter.step(step, name)

    def results(self, jobs: Sequence[Job], *, alone: bool = False) -> list[Result]:
        """The result of every job, in their order; equal ones are carried out once.

        Args:
            alone: in this process and beside nothing else, as timings must be.

        Raises:
            OutputError: a result cannot be kept.
        """
        found: dict[str, Result] = {}
        missing: dict[str, Job] = {}
        for job in jobs:
            if job.digest in found or job.digest in missing:
                self.reporter.done(job.title, job.like, None)
                continue
            kept = self.state.results.get(job.fingerprint, Result) if job.kept else None
            if kept is None:
                missing[job.digest] = job
            else:
                found[job.digest] = kept
                self.reporter.done(job.title, job.like, None)
        executor = self.executor
        if alone:
            executor.release()
            executor = LocalExecutor()
        waiting = list(missing.values())
        if waiting:
            self.reporter.work(waiting[0].title)
        for job, result in executor.run(waiting):
            # What one variant could not do may have been this machine's fault: it is tried again the next time.
            if job.kept and not result.error:
                self.state.results.put(job.fingerprint, result)
            found[job.digest] = result
            self.reporter.done(job.title, job.like, result.seconds)
            following = next((o for o in waiting if o.digest not in found), None)
            if following is not None:
                self.reporter.work(following.title)
        # Equal jobs count once, whoever asked for them first.
        self.seconds[self.step] += sum(found[digest].seconds for digest in {o.digest for o in jobs})
        return [found[job.digest] for job in jobs]

    def evaluation(self, asked: Asked, name: str, directory: str | None, drop: Sequence[int]) -> Evaluate:
        """One evaluation of one variant: of its directory, or (``None``) of the model with ``drop`` taken out."""
        run, source = self.config.run, str(self.layout.checkpoint.directory)
        return Evaluate(
            title=f"{asked.name}: {name}",
            like=f"{asked.task} {asked.data}",
            model=directory or source,
            content=self.content,
            threads=self.threads,
            drop=tuple(sorted(drop)),
            in_memory=directory is None and bool(drop),
            recovery=None if directory is None else recovery_sha256(Path(directory)),
            asked=asked.key,
            task=asked.task,
            data=asked.data,
            request=asked.request,
            baseline=source if asked.paired else None,
            device=run.device,
            dtype=run.dtype,
            batch_size=run.batch_size,
        )


def recovery_sha256(directory: Path) -> str | None:
    """The hash of what a variant says of its training; none of one that was only pruned."""
    said = directory / RECOVERY_FILE
    return hashlib.sha256(said.read_bytes()).hexdigest() if said.is_file() else None


def records_or_raise(result: Result) -> Measurements:
    """The evidence in a result of the unpruned model, without which there is nothing to compare with.

    Raises:
        AuditError: it could not be measured.
    """
    if result.error:
        raise AuditError("baseline-failed", f"the unpruned model cannot be measured: {result.error}")
    return result.records
