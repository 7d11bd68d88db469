"""Carrying jobs out: the same functions in this process and in a worker of Ray, with the same number of threads."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gatenorm import api
from gatenorm.audit.run.jobs import Build, Evaluate, Export, Job, Recover, Result, Score, Time
from gatenorm.errors import GatenormError
from gatenorm.models.model import Model
from gatenorm.records.evidence import Comparison, Measurements, Workload, ZeroShotAverage
from gatenorm.results.hashes import code_sha256

Progress = Callable[[int, int], None]


class JobRunner:
    """Carries jobs out, one after the other; what was loaded for one stays loaded for the next."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, ...], Any] = {}

    def run(self, job: Job, progress: Progress | None = None) -> Result:
        """The result of a job, with the seconds it took and the hash of the code that did it.

        What is wrong with one variant alone comes back as ``error``: it must not end the others' work.
        """
        began = time.perf_counter()
        _set_threads(job.threads)
        try:
            found = self._run(job, progress)
        except GatenormError as error:
            found = Result(error=str(error))
        return replace(found, seconds=time.perf_counter() - began, code=code_sha256())

    def release(self) -> None:
        """Give back what is still loaded."""
        self._held.clear()
        gc.collect()

    def _run(self, job: Job, progress: Progress | None) -> Result:
        match job:
            case Score():
                return self._score(job, progress)
            case Build():
                api.prune(job.model, job.out, job.plan, progress=progress)
                return Result()
            case Evaluate():
                return self._evaluate(job, progress)
            case Time():
                self.release()
                return _time(job, progress)
            case Export():
                return _export(job, progress)
            case Recover():
                return _recover(job, progress)
        raise TypeError(f"{type(job).__name__} is no job that can be carried out")

    def _score(self, job: Score, progress: Progress | None) -> Result:
        from gatenorm.criteria.tokens.sources import Calibration

        if job.source is None:
            return Result(scores=api.score(job.model, job.criterion, seed=job.seed, progress=progress))
        tokens = Calibration(job.source, job.samples, job.length, seed=job.seed)
        session = self._session(job.model, job.device, job.dtype)
        return Result(scores=api.score(session, job.criterion, calibration=tokens, progress=progress))

    def _evaluate(self, job: Evaluate, progress: Progress | None) -> Result:
        baseline = None if job.baseline is None else _model(job, job.baseline)
        with self._model_of(job) as model:
            found = api.evaluate(
                model,
                [job.task],
                job.data,
                baseline=baseline,
                request=job.request,
                bars=None if progress is None else _bars(progress),
            )
        # A baseline is named for tasks that need both models at once: their own records are all that is wanted.
        own = [e for e in found if not isinstance(e, (Comparison, ZeroShotAverage))]
        return Result(records=Measurements(e for e in own if baseline is None or isinstance(e, Workload)))

    @contextmanager
    def _model_of(self, job: Evaluate) -> Iterator[Model]:
        if not job.in_memory:
            key = ("model", job.model, job.device, job.dtype)
            if key not in self._held:
                self.release()
                self._held[key] = _model(job, job.model)
            yield self._held[key]
        elif job.task in ("perplexity", "stories"):  # these run without a cache: no second copy is needed
            whole = self._session(job.model, job.device, job.dtype).model
            whole.batch_size = job.batch_size
            with whole.without(job.drop) as model:
                yield model
        else:
            self.release()
            yield _model(job, job.model).pruned_copy(job.drop)

    def _session(self, model: str, device: str, dtype: str) -> Any:
        """The unpruned model, loaded once for whatever is asked of it in a row."""
        key = ("session", model, device, dtype)
        if key not in self._held:
            self.release()
            self._held[key] = api.session(model, device=device, dtype=dtype)
        return self._held[key]


def _time(job: Time, progress: Progress | None) -> Result:
    from gatenorm.engines import Setting, engine_named
    from gatenorm.speed.measure.bench import Protocol, bench, cases, labels_of
    from gatenorm.speed.measure.variants import Variant

    baseline, *others = [
        Variant.exported(Path(path)) or Variant.of(api.open_model(path)) for path in (job.model, *job.variants)
    ]
    wanted = cases(job.lengths or None, job.batches, job.new_tokens, [baseline, *others])
    setting = Setting(cases=wanted, device=job.device, dtype=job.dtype, threads=job.threads, seed=job.seed)
    engine = engine_named(job.engine, "times")
    found = bench(others, engine, setting, Protocol(job.rounds), baseline=baseline, progress=progress)
    return Result(records=Measurements(found), labels=tuple(labels_of([baseline, *others])))


def _export(job: Export, progress: Progress | None) -> Result:
    """Write an export where there is none, and ask the engine whether it computes the same."""
    out = Path(job.out)
    if not out.exists():
        api.export(job.model, job.to, out)
    checked = api.verify(out, job.model, job.engine, tokens=job.tokens, progress=progress)
    protocol = {**checked.evidence.protocol, "faults": list(checked.faults)}
    return Result(records=Measurements((replace(checked.evidence, protocol=protocol),)))


def _recover(job: Recover, progress: Progress | None) -> Result:
    from gatenorm.recovery.settings import Settings

    asked: dict[str, Any] = {"steps": job.steps, "objective": job.objective}
    found = api.recover(
        job.model,
        job.out,
        job.data,
        parent=job.parent,
        settings=Settings(device=job.device, dtype=job.dtype, seed=job.seed),
        progress=progress,
        **{name: value for name, value in asked.items() if value is not None},
    )
    if found.diverged:
        return Result(error=str(found.diverged))
    return Result(records=Measurements(found.evidence))


def _model(job: Evaluate, path: str) -> Model:
    opened = Model.of_layout(api.open_model(path), device=job.device, dtype=job.dtype, batch_size=job.batch_size)
    opened.check_hardware()
    return opened


def _bars(progress: Progress) -> Callable[[str, str], AbstractContextManager[Progress]]:
    @contextmanager
    def bar(what: str, unit: str) -> Iterator[Progress]:
        yield progress

    return bar


def _set_threads(count: int) -> None:
    """Sums of floats depend on how they are split: every process takes the same number of threads."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(count)
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(count)
