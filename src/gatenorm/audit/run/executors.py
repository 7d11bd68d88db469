"""Who runs jobs: this process, or Ray. Both give each result as soon as it is there.

Ray's scheduler decides what runs where. On a cluster, the model, the data and the output directory must lie under the
same paths on every node, and every node must have this gatenorm: a result of other code is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from gatenorm.audit.plan.config import Run
from gatenorm.audit.run.job_runner import JobRunner
from gatenorm.audit.run.jobs import Job, Result
from gatenorm.engines import threads_at_hand
from gatenorm.errors import AuditError, first_line, named, needing
from gatenorm.results.hashes import code_sha256

# One for each worker of Ray, so that a model stays loaded from job to job.
_RUNNER = JobRunner()


class LocalExecutor:
    """In this process, one job after the other.

    A model stays loaded for the jobs that are about it.
    """

    def __init__(self) -> None:
        self._runner = JobRunner()

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
        """Yield every job, of which none depends on another, with its result, each as soon as it is done."""
        for job in jobs:
            yield job, self._runner.run(job)

    def release(self) -> None:
        """Give back what is still loaded in this process."""
        self._runner.release()


class RayExecutor:
    """As Ray tasks, one a job, with processors and accelerators reserved; a job whose worker dies runs again.

    Starts Ray on this machine, or joins the cluster at an address; shuts down what it started.
    """

    def __init__(self, run: Run, threads: int):
        self._run, self._threads = run, threads
        self._ray: Any = None

    def __enter__(self) -> RayExecutor:
        with ExitStack() as entered:
            entered.enter_context(_environment())
            self._start(entered)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.close()

    def _start(self, entered: ExitStack) -> None:
        with needing("the executor ray", "ray", "ray"):
            import ray
        self._ray = ray
        if ray.is_initialized():
            return
        address = self._run.ray_address
        arguments: dict[str, Any] = {"address": address}
        if address is None:
            cpus = max(threads_at_hand(), self._threads)
            arguments = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        try:
            # Ray hands this process's import paths on, so its workers find this very package.
            ray.init(log_to_driver=False, logging_level="ERROR", **arguments)
        except Exception as error:  # Ray raises bare ones too, as where it takes too long to start
            problem = f"cannot be reached: {first_line(error):.200}"
            raise AuditError("ray-unreachable", problem, field="run.ray_address", given=address) from None
        entered.enter_context(_silent_workers())
        entered.callback(ray.shutdown)

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
        """Yield every job, of which none depends on another, with its result, each as soon as it is done.

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
                problem = f"a Ray worker was lost during {job.title}: {first_line(error).rstrip('.'):.200}"
                hint = f"run it again, which goes on from here; {named('run.retries')} says how often a job is repeated"
                raise AuditError("ray-worker-lost", problem, hint=hint) from None
            if result.code != code_sha256():
                problem = "the Ray workers run another gatenorm than this process: install the same there"
                raise AuditError("ray-other-code", problem)
            yield job, result

    def release(self) -> None:
        """Nothing: models are loaded in the workers."""


Executor = LocalExecutor | RayExecutor


def executor(run: Run, threads: int) -> Executor:
    """The executor that a configuration names, to be entered.

    Raises:
        MissingExtraError: Ray is not installed.
        AuditError: the address cannot be reached.
    """
    return RayExecutor(run, threads) if run.executor == "ray" else LocalExecutor()


def _run_in(directory: str, job: Job) -> Result:
    """In a worker: relative paths mean what they mean to whoever gave them."""
    with suppress(OSError):  # a node without that directory needs absolute paths
        os.chdir(directory)
    return _RUNNER.run(job)


@contextmanager
def _environment() -> Iterator[None]:
    """What Ray is told by variables where they are not set, until it is no longer needed."""
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",
        # Else Ray takes the accelerators away from workers that ask for none, and from this process's children too.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _silent_workers() -> Iterator[None]:
    """Ray tells of dead workers on stdout, among the results: not for now; what matters of that, ``run`` says."""
    try:
        printer: Any = import_module("ray._private.worker")
        before = printer._worker_logs_enabled
    except (ImportError, AttributeError):
        yield
        return
    printer._worker_logs_enabled = False
    try:
        yield
    finally:
        printer._worker_logs_enabled = before
