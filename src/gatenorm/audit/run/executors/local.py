"""In this process, one job after the other; a model stays loaded for the jobs that are about it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from gatenorm.audit.run.job_runner import JobRunner, Progress
from gatenorm.audit.run.jobs import Job, Result


class LocalExecutor:
    """The default executor; leaves the number of threads as it found it."""

    def __init__(self) -> None:
        self._runner = JobRunner()

    def __enter__(self) -> LocalExecutor:
        from threadpoolctl import threadpool_limits

        # Without a limit of its own this only remembers what the limits were.
        self._limits = threadpool_limits(limits=None)
        torch = sys.modules.get("torch")
        self._threads = torch.get_num_threads() if torch is not None else None
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._limits.restore_original_limits()
        torch = sys.modules.get("torch")
        if torch is not None and self._threads is not None:
            torch.set_num_threads(self._threads)

    def run(self, jobs: Iterable[Job], progress: Progress | None = None) -> Iterator[tuple[Job, Result]]:
        """See :class:`gatenorm.audit.run.executors.Executor`."""
        for job in jobs:
            yield job, self._runner.run(job, progress)

    def release(self) -> None:
        """See :class:`gatenorm.audit.run.executors.Executor`."""
        self._runner.release()
