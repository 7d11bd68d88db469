"""Speed and memory in the engines chosen: exported, verified, then timed in turns, alone on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from gatenorm.audit.plan.candidates import Candidate
from gatenorm.audit.run.job_cache import Measuring, recovery_sha256
from gatenorm.audit.run.jobs import Export, Time
from gatenorm.engines import engine_named
from gatenorm.exports.registry import export_form
from gatenorm.records import Evidence
from gatenorm.records.audit import NotExamined
from gatenorm.records.evidence import Speed, of_type

# The unpruned model's export: a name that no variant has, whatever the model is called.
UNPRUNED = "unpruned"
_DIRECTORY = "transformers"
_GGUF = "gguf"
_ALL_REJECTED = NotExamined("speed and memory", "every candidate was rejected before")


def measure(
    measuring: Measuring, candidates: Sequence[Candidate], baseline: list[Evidence]
) -> tuple[list[NotExamined], str]:
    """Time all candidates beside the unpruned model, whose records go to ``baseline``; gives what was left out."""
    engines = measuring.config.speed.engines
    missing = []
    if not engines:
        missing.append(
            NotExamined("speed and memory", "no engine was chosen", "name one in speed.engines, such as transformers")
        )
    if all(_form(engine) == _DIRECTORY for engine in engines):
        why = "the engine chosen reads the pruned directory itself" if engines else "no engine was chosen"
        missing.append(NotExamined("export and verify", why, "add llamacpp to speed.engines"))
    if not candidates and engines:
        return [*missing, _ALL_REJECTED], "nothing to time"
    for engine in engines:
        missing += _in_engine(engine, measuring, candidates, baseline)
    return missing, f"{len(candidates)} candidates in {', '.join(engines) or 'no engine'}"


def measure_recovered(
    measuring: Measuring, recovered: Sequence[Candidate], baseline: list[Evidence]
) -> list[NotExamined]:
    """Export and verify what training made of variants, and time those whose like was not timed before."""
    engines = measuring.config.speed.engines if recovered else ()
    return [line for engine in engines for line in _in_engine(engine, measuring, recovered, baseline)]


def without_repeats(lines: Sequence[NotExamined], timed: bool) -> list[NotExamined]:
    """Every line once; that nothing could be timed goes where something was ``timed`` after all."""
    kept = [line for line in lines if not (timed and line == _ALL_REJECTED)]
    return list({(line.what, line.why): line for line in kept}.values())


def _in_engine(
    engine: str, measuring: Measuring, candidates: Sequence[Candidate], baseline: list[Evidence]
) -> list[NotExamined]:
    paths, missing = _paths(engine, measuring, candidates)
    whole = paths.pop("", None)
    # Recovered ones bring the timings of what they were trained from.
    alive = [c for c in candidates if c.name in paths and not _timed(c, engine)]
    if whole is None or not alive:
        return missing
    unique = list({c.drop: c for c in alive}.values())
    size = _side_by_side(measuring) - 1
    groups = [unique[n : n + size] for n in range(0, len(unique), size)]
    jobs = [_timing(engine, measuring, whole, [paths[c.name] for c in group], group) for group in groups]
    for job in jobs:
        measuring.reporter.ledger.expect(job.like)
    for group, result in zip(groups, measuring.results(jobs, alone=True), strict=True):
        if result.error:
            missing.append(NotExamined(f"speed in {engine}", result.error))
            continue
        found, labels = of_type(result.records, Speed), result.labels
        of_variant = {tuple(c.drop): label for c, label in zip(group, labels[1:], strict=True)}
        baseline += [e for e in found if e.protocol.label == labels[0]]
        for one in alive:
            if one.drop in of_variant:
                one.records += [e for e in found if e.protocol.label == of_variant[one.drop]]
    return missing


def _paths(
    engine: str, measuring: Measuring, candidates: Sequence[Candidate]
) -> tuple[dict[str, str], list[NotExamined]]:
    """Where each model lies in the form that the engine reads; the unpruned one under an empty name."""
    source = str(measuring.layout.checkpoint.directory)
    directories = {c.name: str(measuring.state.directory / c.directory) for c in candidates}
    if _form(engine) == _DIRECTORY:
        return {"": source, **directories}, []
    exports = measuring.state.directory / "exports"
    reasons = export_form(_GGUF).obstacles(measuring.layout)
    if reasons:
        return {}, [NotExamined(f"speed in {engine}", f"no {_GGUF} file can be written: {'; '.join(reasons)}")]
    names = {"": UNPRUNED, **{name: name for name in directories}}
    models = {"": source, **directories}
    drops: dict[str, tuple[int, ...]] = {"": (), **{c.name: c.drop for c in candidates}}
    jobs = []
    for name, model in models.items():
        out = exports / f"{names[name]}.{_GGUF}"
        job = Export(
            title=f"exporting {names[name]}",
            like="export",
            model=model,
            content=measuring.content,
            threads=measuring.threads,
            name=names[name],
            drop=drops[name],
            recovery=recovery_sha256(Path(model)),
            out=str(out),
            to=_GGUF,
            engine=engine,
        )
        # What another plan left under this name would be believed.
        measuring.state.keep_only(out.name, {"job": job.digest}, out)
        if not out.exists():
            measuring.state.results.forget(job.fingerprint)
        jobs.append(job)
        measuring.reporter.ledger.expect("export")
    by_name = {c.name: c for c in candidates}
    paths, missing = {}, []
    for name, job, result in zip(models, jobs, measuring.results(jobs), strict=True):
        if result.error:
            missing.append(NotExamined(f"{names[name]} in {engine}", result.error))
            continue
        paths[name] = job.out
        if name:
            by_name[name].records += result.records
    return paths, missing


def _timing(engine: str, measuring: Measuring, whole: str, paths: list[str], group: Sequence[Candidate]) -> Time:
    asked, run = measuring.config.speed, measuring.config.run
    return Time(
        title=f"timing {len(group)} variants in {engine}, alone",
        like=f"speed {engine}",
        model=whole,
        content=measuring.content,
        threads=measuring.threads,
        variants=tuple(paths),
        drops=tuple(c.drop for c in group),
        machine=_machine(),
        engine=engine,
        lengths=asked.lengths,
        batches=asked.batches,
        new_tokens=asked.new_tokens,
        rounds=asked.rounds,
        device=run.device,
        dtype=run.dtype,
        seed=run.seed,
    )


def _timed(one: Candidate, engine: str) -> bool:
    return any(e.protocol.engine == engine for e in of_type(one.records, Speed))


def _form(engine: str) -> str:
    return _DIRECTORY if _DIRECTORY in engine_named(engine).reads else _GGUF


def _side_by_side(measuring: Measuring) -> int:
    """How many models are open at once: as many as fit into half of the memory, two at least, all where few."""
    asked = measuring.config.speed.side_by_side
    if asked is not None:
        return asked
    if measuring.config.run.device != "cpu" or not hasattr(os, "sysconf"):
        return 2
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Beside its weights, which may be stored in half the width, a process holds libraries and activations.
    one = 2 * sum(measuring.layout.checkpoint.files.values()) + (500 << 20)
    return max(2, min(8, memory // 2 // one))


def _machine() -> dict[str, str | int | None]:
    """What a timing is true of."""
    return {"node": platform.node(), "machine": platform.machine(), "processors": os.cpu_count()}
