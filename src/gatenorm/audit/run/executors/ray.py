"""As Ray tasks: one for each job, with processors and accelerators asked for, and again when a worker dies.

Ray's scheduler decides what runs where. On a cluster, the model, the data and the output directory must lie under the
same paths on every node, and every node must have this gatenorm: a result of other code is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from gatenorm.audit.plan.config import Run
from gatenorm.audit.run.job_runner import JobRunner, Progress
from gatenorm.audit.run.jobs import Job, Result
from gatenorm.errors import AuditError, MissingExtraError
from gatenorm.results.hashes import code_sha256


def _run_in(directory: str, job: Job) -> Result:
    """In a worker: relative paths mean what they mean to whoever gave them."""
    with suppress(OSError):  # a node without that directory needs absolute paths
        os.chdir(directory)
    return _runner().run(job)


@cache
def _runner() -> JobRunner:
    """One for each worker, so that a model stays loaded from job to job."""
    return JobRunner()


class RayExecutor:
    """Starts Ray on this machine, or joins the cluster at an address; shuts down what it started."""

    def __init__(self, run: Run, threads: int):
        self._run, self._threads = run, threads
        self._started = False
        self._ray: Any = None

    def __enter__(self) -> RayExecutor:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Else Ray takes the accelerators away from workers that ask for none, and from this process's children too.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise MissingExtraError("the executor ray", "ray", "ray") from None
        self._ray = ray
        if ray.is_initialized():
            return self
        from gatenorm.speed.measure.bench import threads_at_hand

        arguments: dict[str, Any] = {"address": self._run.ray_address}
        if self._run.ray_address is None:
            cpus = max(threads_at_hand(), self._threads)
            arguments = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        try:
            # Ray hands this process's import paths on, so its workers find this very package.
            ray.init(log_to_driver=False, logging_level="ERROR", **arguments)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise AuditError(
                "ray-unreachable",
                f"cannot be reached: {reason:.200}",
                field="run.ray_address",
                given=self._run.ray_address,
            ) from None
        self._started = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            self._ray.shutdown()

    def run(self, jobs: Iterable[Job], progress: Progress | None = None) -> Iterator[tuple[Job, Result]]:
        """See :class:`gatenorm.audit.run.executors.Executor`; ``progress`` stays unused, since workers are elsewhere.

        Raises:
            AuditError: a worker died more often than is retried, or runs another gatenorm.
        """
        task = self._ray.remote(_run_in).options(
            num_cpus=self._threads, num_gpus=self._run.ray_gpus, max_retries=self._run.retries
        )
        here = str(Path.cwd())
        waiting = {task.remote(here, job): job for job in jobs}
        while waiting:
            ready, _ = self._ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(ready[0])
            try:
                result: Result = self._ray.get(ready[0])
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None
            except self._ray.exceptions.RayError as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise AuditError("ray-worker-lost", f"a Ray worker was lost during {job.title}: {reason}") from None
            if result.code != code_sha256():
                raise AuditError(
                    "ray-other-code", "the Ray workers run another gatenorm than this process: install the same there"
                )
            yield job, result

    def release(self) -> None:
        """Nothing: models are loaded in the workers."""
