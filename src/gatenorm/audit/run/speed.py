"""Speed and memory in the engines chosen: exported, verified, then timed in turns, alone on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gatenorm.audit.plan.engine_form import UNPRUNED, export_path, form_for
from gatenorm.audit.plan.memory_use import side_by_side
from gatenorm.audit.plan.parts import EXPORT
from gatenorm.audit.run.job_cache import NO_EDITS, JobCache, recovery_sha256
from gatenorm.audit.run.jobs import Export, Time
from gatenorm.audit.run.variant import Variant
from gatenorm.audit.state import Origin
from gatenorm.records import Evidence
from gatenorm.records.audit import NotExamined, Setting, StepName
from gatenorm.records.evidence import Speed, of_type

_not_examined = partial(NotExamined, StepName.SPEED)
_ALL_REJECTED = _not_examined("speed and memory", "every candidate was rejected before")


def measure(cache: JobCache, candidates: Sequence[Variant], baseline: list[Evidence]) -> tuple[list[NotExamined], str]:
    """Time all candidates beside the unpruned model, whose records go to ``baseline``; gives what was left out."""
    engines = cache.config.speed.engines
    missing = []
    if not engines:
        setting = Setting("speed.engines", "one or more, such as transformers")
        missing.append(NotExamined.unless(StepName.SPEED, "speed and memory", "no engine was chosen", setting))
    if not any(form_for(engine) for engine in engines):
        why = "the engine chosen reads the pruned directory itself" if engines else "no engine was chosen"
        setting = Setting("speed.engines", "one that reads exports, such as llamacpp")
        missing.append(NotExamined.unless(StepName.SPEED, "export and verify", why, setting))
    if not candidates and engines:
        return [*missing, _ALL_REJECTED], "nothing to time"
    for engine in engines:
        missing += _in_engine(engine, cache, candidates, baseline)
    return missing, f"{len(candidates)} candidates in {', '.join(engines) or 'no engine'}"


def measure_recovered(cache: JobCache, recovered: Sequence[Variant], baseline: list[Evidence]) -> list[NotExamined]:
    """Export and verify what training made of variants, and time those whose like was not timed before."""
    engines = cache.config.speed.engines if recovered else ()
    return [line for engine in engines for line in _in_engine(engine, cache, recovered, baseline)]


def without_repeats(lines: Sequence[NotExamined], timed: bool) -> list[NotExamined]:
    """Every line once; that nothing could be timed goes where something was ``timed`` after all."""
    kept = [line for line in lines if not (timed and line == _ALL_REJECTED)]
    return list({(line.what, line.why): line for line in kept}.values())


def _in_engine(
    engine: str, cache: JobCache, candidates: Sequence[Variant], baseline: list[Evidence]
) -> list[NotExamined]:
    paths, missing = _paths(engine, cache, candidates)
    unpruned = paths.pop(UNPRUNED, None)
    # Recovered ones bring the timings of what they were trained from.
    waiting = [c for c in candidates if c.name in paths and not c.timed_in(engine)]
    if unpruned is None or not waiting:
        return missing
    unique = list({c.edits: c for c in waiting}.values())
    size = side_by_side(cache.plan) - 1
    groups = [unique[n : n + size] for n in range(0, len(unique), size)]
    jobs = [_timing(engine, cache, unpruned, [paths[c.name] for c in group], group) for group in groups]
    for group, result in zip(groups, cache.run(jobs, alone=True), strict=True):
        if result.error:
            missing.append(_not_examined(f"speed in {engine}", result.error))
            continue
        timings, labels = of_type(result.records, Speed), result.labels
        of_variant = {c.edits: label for c, label in zip(group, labels[1:], strict=True)}
        baseline += [e for e in timings if e.protocol.label == labels[0]]
        for variant in waiting:
            if variant.edits in of_variant:
                variant.records += [e for e in timings if e.protocol.label == of_variant[variant.edits]]
    return missing


def _paths(engine: str, cache: JobCache, candidates: Sequence[Variant]) -> tuple[dict[str, str], list[NotExamined]]:
    """Where each model lies in the form that the engine reads, by variant; the unpruned one as ``UNPRUNED``."""
    models = {UNPRUNED: cache.source, **{c.name: str(cache.state.directory / c.directory) for c in candidates}}
    form = form_for(engine)
    if form is None:
        return models, []
    reasons = form.obstacles(cache.layout)
    if reasons:
        return {}, [_not_examined(f"speed in {engine}", f"no {form.name} can be written: {'; '.join(reasons)}")]
    by_name = {c.name: c for c in candidates}
    jobs = []
    for name, model in models.items():
        out = export_path(cache.state.directory, name, form)
        job = cache.job(
            Export,
            f"exporting {name}",
            EXPORT,
            model=model,
            name=name,
            edits=by_name[name].edits if name in by_name else NO_EDITS,
            recovery=recovery_sha256(Path(model)),
            out=str(out),
            to=form.name,
            engine=engine,
        )
        # What another plan left under this name would be believed.
        cache.state.keep_only(out.name, Origin(job=job.digest), out)
        if not out.exists():
            cache.state.results.forget(job.fingerprint)
        jobs.append(job)
    paths, missing = {}, []
    for job, result in zip(jobs, cache.run(jobs), strict=True):
        if result.error:
            missing.append(_not_examined(f"{job.name} in {engine}", result.error))
            continue
        paths[job.name] = job.out
        if job.name in by_name:
            by_name[job.name].records += result.records
    return paths, missing


def _timing(engine: str, cache: JobCache, unpruned: str, paths: list[str], group: Sequence[Variant]) -> Time:
    speed = cache.config.speed
    return cache.job(
        Time,
        f"timing {len(group)} variants in {engine}, alone",
        f"speed {engine}",
        model=unpruned,
        variants=tuple(paths),
        edits=tuple(c.edits for c in group),
        machine={"node": platform.node(), "machine": platform.machine(), "processors": os.cpu_count()},
        engine=engine,
        **{name: getattr(speed, name) for name in ("lengths", "batches", "new_tokens", "rounds")},
    )
