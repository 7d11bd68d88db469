"""Jobs are run one after the other; each finished one is kept, so that nothing is measured twice."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

import msgspec

from gatenorm.engines import engine_named
from gatenorm.errors import EvaluationError, OutputError
from gatenorm.evaluation.core.job import Job
from gatenorm.evaluation.statistics.paired_statistics import compare
from gatenorm.evaluation.statistics.zeroshot_average import averaged
from gatenorm.extensions import check_kind
from gatenorm.models.model import TRANSFORMERS, Model
from gatenorm.progress import Bars, Progress, no_bars
from gatenorm.records import to_json
from gatenorm.records.evidence import Evidence, Measurements, PairedEvidence
from gatenorm.results import Fingerprint, ResultStore, versions

_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Finished:
    """A record, whether it came out of the cache, and the job that measured it; averages and changes have none."""

    evidence: Evidence
    cached: bool = False
    job: Job | None = None


def run(
    jobs: Sequence[Job],
    model: Model,
    baseline: Model | None = None,
    *,
    cache: ResultStore | None = None,
    bars: Bars | None = None,
    finished: Callable[[Finished], None] | None = None,
) -> list[Finished]:
    """All jobs on the baseline, then on the model, then what needs both; at last the averages and what changed.

    Each model is loaded once, and not at all where everything is in the cache.

    Args:
        cache: where results are kept and looked up; ``None`` measures everything.
        bars: opens a progress bar for each job.
        finished: called with each :class:`Finished` as soon as it is there.

    Raises:
        EvaluationError, CheckpointError: as loading and the tasks.
    """
    for one in jobs:
        for run_in in (model, *([baseline] if baseline else [])):
            check_engine(one, run_in)
    run_of = _Run(cache, bars, finished)
    single = [job for job in jobs if job.run is not None]
    both = [job for job in jobs if job.compare is not None]
    if baseline is not None and both:
        check_same_tokenizer(model, baseline)  # before minutes are spent on the other tasks
    before: list[Evidence] = []
    if baseline is not None:
        before = [run_of.single(job, baseline) for job in single]
        if not both:
            baseline.release()  # two large models need not be in memory at once
    after = [run_of.single(job, model) for job in single]
    if baseline is not None:
        for job in both:
            run_of.pair(job, model, baseline)
    changes = [change for change in map(compare, before, after) if change is not None]
    for record in chain(*averaged(before, after, changes)):
        run_of.add(record)
    return run_of.records


def check_engine(job: Job, model: Model) -> None:
    """Raise EvaluationError for an engine that cannot answer what is asked, or that there is not."""
    engine_named(model.engine).check_installed()
    if model.engine not in job.engines:
        problem, expected = f"cannot run {job.kind} of {model.name}", " or ".join(job.engines)
        foreign = model.layout is not None and model.layout.checkpoint.form != TRANSFORMERS
        hint = "convert it to a directory first: gatenorm convert" if foreign else ""
        raise EvaluationError(
            "engine-cannot", problem, field="engine", given=model.engine, expected=expected, hint=hint
        )


class _Run:
    """What is done so far."""

    def __init__(self, cache: ResultStore | None, bars: Bars | None, finished: Callable[[Finished], None] | None):
        self.records: list[Finished] = []
        self._cache = cache
        self._bars = bars or no_bars
        self._finished = finished
        self._contents: dict[int, str | None] = {}

    def single(self, job: Job, model: Model) -> Evidence:
        assert job.run is not None
        measure = job.run
        return self._measured(job, [model], lambda progress: measure(model, progress))

    def pair(self, job: Job, model: Model, baseline: Model) -> Evidence:
        assert job.compare is not None
        measure = job.compare
        return self._measured(job, [model, baseline], lambda progress: measure(model, baseline, progress))

    def add(self, evidence: Evidence, cached: bool = False, job: Job | None = None) -> Evidence:
        record = Finished(evidence, cached, job)
        self.records.append(record)
        if self._finished:
            self._finished(record)
        return evidence

    def _measured(self, job: Job, models: Sequence[Model], measure: Callable[[Progress], Evidence]) -> Evidence:
        model = models[0]
        packages = (*job.packages, *engine_named(model.engine).distributions)
        fingerprint = self._fingerprint(job, models, packages)
        kept = self._cache.get(fingerprint, Measurements) if self._cache and fingerprint else None
        if kept:
            # The same content may lie in a folder of another name today.
            named = {"baseline": models[1].identity} if len(models) > 1 else {}
            return self.add(msgspec.structs.replace(kept[0], model=model.identity, **named), cached=True, job=job)
        with self._bars(f"{job.title}: {model.name}", job.unit) as progress:
            measured = measure(progress)
        check_kind(f"what {job.kind} measures", measured, PairedEvidence if len(models) > 1 else Evidence)
        for one in models:
            one.check_unchanged()
        whose = {"model": model.identity, "edits": model.edits}
        whose |= {"baseline": models[1].identity, "baseline_edits": models[1].edits} if len(models) > 1 else {}
        evidence = msgspec.structs.replace(measured, versions=versions(packages), **whose)
        if self._cache and fingerprint:
            with suppress(OutputError):  # a cache that cannot be written to is as good as none
                self._cache.put(fingerprint, Measurements((evidence,)))
        return self.add(evidence, job=job)

    def _fingerprint(self, job: Job, models: Sequence[Model], packages: Sequence[str]) -> Fingerprint | None:
        contents = [self._content(model) for model in models]
        if None in contents:
            return None
        weights = {role: content for role, content in zip(("model", "baseline"), contents, strict=False) if content}
        protocol = {
            "kind": job.kind,
            "job": dict(job.key),
            "hardware": [[m.device, m.computes_in, m.context, m.engine, to_json(m.edits)] for m in models],
        }
        return Fingerprint.of(protocol, weights, packages)

    def _content(self, model: Model) -> str | None:
        if self._cache is None or model.layout is None:
            return None
        if id(model) not in self._contents:
            with self._bars(f"looking for earlier results: {model.name}", "bytes") as progress:
                self._contents[id(model)] = model.layout.checkpoint.fingerprint(progress)
        return self._contents[id(model)]


def check_same_tokenizer(model: Model, baseline: Model) -> None:
    """Refuse two models whose tokens are not the same; no weight is read for it.

    Raises:
        EvaluationError: they are not, or a tokenizer cannot be read.
    """
    stores = [one.layout.checkpoint for one in (model, baseline) if one.layout is not None]
    contents = [store.read(_TOKENIZER) for store in stores if _TOKENIZER in store.companions]
    same = len(contents) == 2 and contents[0] == contents[1]
    same = same or model.tokenizer.get_vocab() == baseline.tokenizer.get_vocab()
    if model.vocabulary != baseline.vocabulary or not same:
        raise EvaluationError(
            "tokenizers-differ",
            f"{model.name} and {baseline.name} have different tokenizers: their distributions cannot be compared",
        )
