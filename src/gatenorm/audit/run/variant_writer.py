"""Writing variants: pruned directories, exports, and what recovery makes of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gatenorm import api
from gatenorm.audit.plan.candidates import Candidate
from gatenorm.audit.plan.rankings import source_key
from gatenorm.audit.run.job_cache import Measuring
from gatenorm.audit.run.jobs import Build, Recover
from gatenorm.errors import GatenormError, OutputError
from gatenorm.models.named import training_source
from gatenorm.records import Evidence, ModelIdentity, Plan, read_record
from gatenorm.records.audit import CANDIDATE, RECOVERED
from gatenorm.records.evidence import Speed, of_type
from gatenorm.results.hashes import code_sha256
from gatenorm.surgery.disk import PLAN_FILE


def build(measuring: Measuring, candidates: Sequence[Candidate]) -> None:
    """Write every candidate's directory that is not there yet; one that another plan left behind is replaced.

    Raises:
        OutputError: it cannot be written.
    """
    state = measuring.state
    jobs, stamps = [], {}
    for one in candidates:
        path = state.variant(one.name)
        one.directory = str(path.relative_to(state.directory))
        stamp = state.stamp(one.name)
        made_of = {"content": measuring.content, "code": code_sha256()}
        if _holds(path, one.plan) and state.read_stamp(stamp) == made_of:
            continue
        if path.exists():
            shutil.rmtree(path)
        jobs.append(
            Build(
                title=f"writing {one.name}",
                like="build",
                model=str(measuring.layout.checkpoint.directory),
                content=measuring.content,
                threads=measuring.threads,
                out=str(path),
                plan=one.plan,
            )
        )
        stamps[stamp] = made_of
        measuring.reporter.ledger.expect("build")
    for result in measuring.results(jobs):
        if result.error:
            raise OutputError(
                "no-space", result.error, hint="make room and repeat the command, which resumes the audit"
            )
    # A variant whose tokenizer or template was changed since is not the model's any more, though its weights are.
    for stamp, made_of in stamps.items():
        state.write_stamp(stamp, made_of)


def recover(measuring: Measuring, candidates: Sequence[Candidate]) -> tuple[list[Candidate], str]:
    """Train what the aggressive budgets left; returns the recovered variants, and why there are none or fewer."""
    from gatenorm.recovery.state import state_file

    asked = measuring.config.recovery
    wanted = [c for c in candidates if c.share(measuring.layout) >= asked.from_share]
    if not wanted:
        return [], f"no candidate loses {asked.from_share:.0%} of its attention or more"
    found, jobs = [], []
    for one in wanted:
        path = measuring.state.variant(f"{one.name}-recovered", "recovered")
        run = measuring.config.run
        data = training_source(measuring.layout, asked.data)
        job = Recover(
            title=f"recovering {one.name}",
            like="recover",
            model=str(measuring.state.directory / one.directory),
            content=measuring.content,
            threads=measuring.threads,
            name=one.name,
            drop=one.drop,
            out=str(path),
            parent=str(measuring.layout.checkpoint.directory),
            data=data,
            text=source_key(data),
            steps=asked.steps,
            objective=asked.objective,
            device=run.device,
            dtype=run.dtype,
            seed=run.seed,
        )
        # What a training of other settings left, finished or stopped, would be refused or believed.
        measuring.state.keep_only(path.name, {"job": job.digest}, path, state_file(path))
        if not path.exists():
            measuring.state.results.forget(job.fingerprint)
        jobs.append(job)
        measuring.reporter.ledger.expect("recover")
        found.append(_recovered(one, str(path.relative_to(measuring.state.directory))))
    why = ""
    for one, result in zip(found, measuring.results(jobs), strict=True):
        if result.error:
            one.rejected = f"recovery failed: {result.error}"
            why = one.rejected
        one.records += result.records
    return [one for one in found if not one.rejected], why


def named(record: Evidence, variant: Candidate, measuring: Measuring) -> Evidence:
    """A record under this variant's own name: equal removals of two rankings are measured once."""
    if not variant.directory or record.model.name == variant.name:
        return record
    return replace(record, model=_identity(measuring.state.directory / variant.directory))


def _recovered(one: Candidate, directory: str) -> Candidate:
    # Training changes no shape, so what the pruned variant's speed was stays true.
    timings: list[Evidence] = [*of_type(one.records, Speed)]
    return Candidate(
        f"{one.name}-recovered", one.ranking, one.budget, one.plan, CANDIDATE, RECOVERED, directory, timings
    )


def _identity(path: Path) -> ModelIdentity:
    return api.open_model(path).identity()


def _holds(path: Path, plan: Plan) -> bool:
    """Whether the directory is what this plan writes."""
    if not (path / "config.json").is_file():
        return False
    try:
        written = read_record(Plan, path / PLAN_FILE, "a plan")
    except GatenormError:
        return False
    return written.edits == plan.edits and written.criterion == plan.criterion and written.model == plan.model
