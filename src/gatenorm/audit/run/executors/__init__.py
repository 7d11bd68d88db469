"""Who carries jobs out: this process, or Ray. Both give each result as soon as it is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from gatenorm.audit.plan.config import Run
from gatenorm.audit.run.job_runner import Progress
from gatenorm.audit.run.jobs import Job, Result


class Executor(Protocol):
    """Carries out jobs that do not depend on each other, in whatever order suits it."""

    def run(self, jobs: Iterable[Job], progress: Progress | None = None) -> Iterator[tuple[Job, Result]]:
        """Yield every job with its result, each as soon as it is done."""

    def release(self) -> None:
        """Give back what is still loaded in this process."""


def executor(run: Run, threads: int) -> AbstractContextManager[Executor]:
    """The executor that a configuration asks for, to be entered.

    Raises:
        MissingExtraError: Ray is not installed.
        AuditError: the address cannot be reached.
    """
    if run.executor == "ray":
        from gatenorm.audit.run.executors.ray import RayExecutor

        return RayExecutor(run, threads)
    from gatenorm.audit.run.executors.local import LocalExecutor

    return LocalExecutor()
