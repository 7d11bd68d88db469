"""Running jobs: the same functions in this process and in a worker of Ray, with the same number of threads."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gatenorm import api
from gatenorm.audit.run.jobs import Build, Evaluate, Export, FitOperations, Job, Recover, Result, Score, Time
from gatenorm.criteria.session import ScoringSession
from gatenorm.errors import GatenormError
from gatenorm.evaluation.core.registry import tasks
from gatenorm.evaluation.core.runner import Finished
from gatenorm.models.model import Model
from gatenorm.models.threads import threads
from gatenorm.records.evidence import Measurements
from gatenorm.results.hashes import code_sha256


class JobRunner:
    """Runs jobs, one after the other; what was loaded for one stays loaded for the next."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, ...], Any] = {}

    def run(self, job: Job) -> Result:
        """The result of a job, with the seconds it took and the hash of the code that did it.

        What is wrong with one variant alone comes back as ``error``: it must not end the others' work.
        """
        began = time.perf_counter()
        try:
            with threads(job.threads):
                result = self._run(job)
        except GatenormError as error:
            result = Result(error=str(error))
        return replace(result, seconds=time.perf_counter() - began, code=code_sha256())

    def release(self) -> None:
        """Give back what is still loaded."""
        self._loaded.clear()
        gc.collect()

    def _run(self, job: Job) -> Result:
        match job:
            case Score():
                return self._score(job)
            case Build():
                api.prune(job.model, job.out, job.plan)
                return Result()
            case FitOperations():
                return self._fit(job)
            case Evaluate():
                return self._evaluate(job)
            case Time():
                self.release()
                return _time(job)
            case Export():
                return _export(job)
            case Recover():
                return _recover(job)
        raise TypeError(f"{type(job).__name__} is no job that can be run")

    def _score(self, job: Score) -> Result:
        from gatenorm.calibration.samples import Calibration

        if job.source is None:
            return Result(scores=api.score(job.model, job.criterion, seed=job.seed))
        tokens = Calibration(job.source, job.samples, job.length, seed=job.seed)
        return Result(scores=api.score(self._session(job), job.criterion, calibration=tokens))

    def _fit(self, job: FitOperations) -> Result:
        from gatenorm.calibration.samples import Calibration

        tokens = [Calibration(source, api.fitting.SAMPLES, job.length, seed=job.seed) for source in job.sources]
        api.prune(job.model, job.out, api.fit(self._session(job), job.plan, tokens))
        return Result()

    def _evaluate(self, job: Evaluate) -> Result:
        baseline = None if job.baseline is None else _model(job, job.baseline)
        done: list[Finished] = []
        with self._model_of(job) as model:
            api.evaluate(model, [job.task], job.data, baseline=baseline, request=job.options, finished=done.append)
        # Averages and changes come of no job. A baseline is named for tasks that need both models at once: of these,
        # the records that compare are all that is wanted.
        return Result(
            records=Measurements(one.evidence for one in done if one.job and (baseline is None or one.job.compare))
        )

    @contextmanager
    def _model_of(self, job: Evaluate) -> Iterator[Model]:
        if not job.in_memory:
            key = ("model", job.model, job.device, job.dtype)
            if key not in self._loaded:
                self.release()
                self._loaded[key] = _model(job, job.model)
            yield self._loaded[key]
        elif not tasks()[job.task.partition(":")[0]].cached:  # no second copy is needed
            whole = self._session(job).model
            whole.batch_size = job.batch_size
            with whole.edited(job.edits) as model:
                yield model
        else:
            self.release()
            yield _model(job, job.model).edited_copy(job.edits)

    def _session(self, job: Score | FitOperations | Evaluate) -> ScoringSession:
        """The unpruned model, loaded once for all jobs in a row that need it."""
        key = ("session", job.model, job.device, job.dtype)
        if key not in self._loaded:
            self.release()
            self._loaded[key] = api.session(job.model, device=job.device, dtype=job.dtype)
        session: ScoringSession = self._loaded[key]
        return session


def _time(job: Time) -> Result:
    from gatenorm.engines import Setting, engine_named
    from gatenorm.exports.registry import Variant
    from gatenorm.speed.measure.bench import Protocol, bench, cases, labels_of

    baseline, *others = [
        Variant.exported(Path(path)) or Variant.of(api.open_model(path)) for path in (job.model, *job.variants)
    ]
    timed = cases(job.lengths or None, job.batches, job.new_tokens, [baseline, *others])
    setting = Setting(cases=timed, device=job.device, dtype=job.dtype, threads=job.threads, seed=job.seed)
    engine = engine_named(job.engine, "times")
    records = bench(others, engine, setting, Protocol(job.rounds), baseline=baseline)
    return Result(records=Measurements(records), labels=tuple(labels_of([baseline, *others])))


def _export(job: Export) -> Result:
    """Write an export where there is none, and compare what the engine computes from it."""
    out = Path(job.out)
    if not out.exists():
        api.export(job.model, job.to, out)
    return Result(records=Measurements((api.verify(out, job.model, job.engine, tokens=job.tokens),)))


def _recover(job: Recover) -> Result:
    from gatenorm.records.recovery_settings import Settings

    settings = Settings(device=job.device, dtype=job.dtype, seed=job.seed)
    how: dict[str, Any] = {"steps": job.steps, "objective": job.objective}
    recovered = api.recover(job.model, job.out, job.data, parent=job.parent, settings=settings, **how)
    if recovered.record.diverged:
        return Result(error=recovered.record.diverged)
    return Result(records=Measurements((recovered.evidence,)))


def _model(job: Evaluate, path: str) -> Model:
    opened = Model.of_layout(api.open_model(path), device=job.device, dtype=job.dtype, batch_size=job.batch_size)
    opened.check_hardware()
    return opened
