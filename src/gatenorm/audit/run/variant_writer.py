"""Writing variants: pruned directories, and what recovery makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from gatenorm import api
from gatenorm.audit.plan.parts import BUILD, FIT, RECOVER
from gatenorm.audit.plan.rankings import source_key
from gatenorm.audit.run.job_cache import JobCache
from gatenorm.audit.run.jobs import Build, FitOperations, Recover
from gatenorm.audit.run.variant import Variant
from gatenorm.audit.state import Origin
from gatenorm.errors import OutputError
from gatenorm.models.named import training_source
from gatenorm.records import Evidence, Plan, read_record
from gatenorm.records.audit import RECOVERED, NotExamined, StepName
from gatenorm.records.evidence import Speed, of_type
from gatenorm.surgery.disk import PLAN_FILE


def build(cache: JobCache, candidates: Sequence[Variant]) -> None:
    """Write the directory of every candidate that only removes, where it is not there yet.

    One is replaced that another plan left behind, other scores, or a model of another tokenizer or template.

    Raises:
        OutputError: it cannot be written.
    """
    state, jobs = cache.state, []
    for variant in candidates:
        path = state.variant(variant.name)
        variant.directory = str(path.relative_to(state.directory))
        job = cache.job(Build, f"writing {variant.name}", BUILD, out=str(path), plan=variant.plan)
        state.keep_only(path.name, Origin(job=job.digest), path)
        if not path.exists():
            jobs.append(job)
    for result in cache.run(jobs):
        if result.error:
            hint = "make room and repeat the command, which resumes the audit"
            raise OutputError("no-space", result.error, hint=hint)


def fit(cache: JobCache, candidates: Sequence[Variant]) -> list[NotExamined]:
    """Fit the operations of candidates and write their directories; gives those that are no variants of their own.

    Each gets the plan with what was fitted. Where every fit does more damage than removal, it is the removal.
    """
    from gatenorm.api.fitting import WINDOW

    state, sources, missing = cache.state, cache.config.budgets.fit, []
    jobs = []
    for variant in candidates:
        path = state.variant(variant.name)
        variant.directory = str(path.relative_to(state.directory))
        job = cache.job(
            FitOperations,
            f"fitting {variant.name}",
            FIT,
            name=variant.name,
            out=str(path),
            plan=variant.plan,
            edits=variant.plan.edits,
            sources=sources,
            tokens=tuple(map(source_key, sources)),
            length=min(WINDOW, cache.layout.context or WINDOW),
        )
        state.keep_only(path.name, Origin(job=job.digest), path)
        jobs.append(job)
    waiting = [job for job in jobs if not Path(job.out).exists()]
    errors = {job.name: result.error for job, result in zip(waiting, cache.run(waiting), strict=True)}
    for variant in candidates:
        if errors.get(variant.name):
            why = f"it could not be fitted: {errors[variant.name]}"
            missing.append(NotExamined(StepName.BUILD, variant.name, why))
            continue
        variant.plan = read_record(Plan, state.variant(variant.name) / PLAN_FILE, "a plan")
        if not variant.plan.replaces:
            why = "removal did less damage to held-out predictions than every fit"
            missing.append(NotExamined(StepName.BUILD, variant.name, why))
    return missing


def recover(cache: JobCache, candidates: Sequence[Variant]) -> tuple[list[Variant], str]:
    """Train what aggressive budgets left; returns the recovered variants, and why there are none or fewer."""
    from gatenorm.recovery.state import state_file

    settings, state = cache.config.recovery, cache.state
    pruned = [c for c in candidates if c.share(cache.layout) >= settings.from_share]
    if not pruned:
        return [], f"no candidate loses {settings.from_share:.0%} of its attention or more"
    data = training_source(cache.layout, settings.data)
    recovered, jobs = [], []
    for variant in pruned:
        path = state.variant(f"{variant.name}-recovered", "recovered")
        job = cache.job(
            Recover,
            f"recovering {variant.name}",
            RECOVER,
            model=str(state.directory / variant.directory),
            name=variant.name,
            edits=variant.edits,
            out=str(path),
            parent=cache.source,
            data=data,
            text=source_key(data),
            steps=settings.steps,
            objective=settings.objective,
        )
        # What a training of other settings left, finished or stopped, would be refused or believed.
        state.keep_only(path.name, Origin(job=job.digest), path, state_file(path))
        if not path.exists():
            state.results.forget(job.fingerprint)
        jobs.append(job)
        recovered.append(_recovered(variant, str(path.relative_to(state.directory))))
    why = ""
    for variant, result in zip(recovered, cache.run(jobs), strict=True):
        if result.error:
            variant.rejected = why = f"recovery failed: {result.error}"
        variant.records += result.records
    return [variant for variant in recovered if not variant.rejected], why


def under_its_name(record: Evidence, variant: Variant, cache: JobCache) -> Evidence:
    """A record under this variant's own name: equal removals of two rankings are measured once."""
    if not variant.directory or record.model.name == variant.name:
        return record
    return replace(record, model=api.open_model(cache.state.directory / variant.directory).identity())


def _recovered(pruned: Variant, directory: str) -> Variant:
    # Training changes no shape, so the pruned variant's speed is its own too.
    timings: list[Evidence] = [*of_type(pruned.records, Speed)]
    name = f"{pruned.name}-recovered"
    return Variant(
        name,
        pruned.ranking,
        pruned.budget,
        pruned.plan,
        pruned.operation,
        state=RECOVERED,
        directory=directory,
        records=timings,
    )
