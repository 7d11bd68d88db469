"""The way in: what can be wrong is said, the directory is taken, the steps are carried out, the audit is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gatenorm import api
from gatenorm.audit.judge.gates import gates, limits
from gatenorm.audit.plan.budgets import Budget, budgets
from gatenorm.audit.plan.config import Config
from gatenorm.audit.plan.evaluations import Asked, evaluations
from gatenorm.audit.plan.rankings import Wanted, wanted
from gatenorm.audit.run.executors import executor
from gatenorm.audit.run.job_cache import Measuring
from gatenorm.audit.run.progress import Listener, Reporter
from gatenorm.audit.run.state import CONFIG_FILE, State, check_directory, claim, lock, writing
from gatenorm.audit.run.workflow import Workflow
from gatenorm.criteria.tokens.sources import HUB
from gatenorm.engines import engine_named
from gatenorm.errors import AuditError, MissingExtraError, PlanError, did_you_mean, fields_named, named
from gatenorm.evaluation.core.text import read_text
from gatenorm.families import Layout
from gatenorm.files import check_apart, write_json
from gatenorm.models.architecture import Architecture
from gatenorm.models.named import default_model, language_of, named_text
from gatenorm.records.audit import CANDIDATE, PASSES, Audit, NotExamined
from gatenorm.records.serialization import to_json
from gatenorm.recovery.settings import OBJECTIVES
from gatenorm.speed.measure.bench import threads_at_hand

ANY = "any"
# Matrices of models this small keep one processor busy; a second one mostly waits for it.
_SMALL_BYTES = 64 << 20


# What the functions below call the keys of the configuration.
_KEYS = {
    **{name: f"run.{name}" for name in ("device", "dtype", "batch_size", "threads", "seed")},
    **{name: f"budgets.{name}" for name in ("layers", "target_speedup", "max_cache_gb", "machine", "context", "batch")},
    **{name: f"rankings.{name}" for name in ("criteria", "protect", "calibration", "samples", "length")},
    "criterion": "rankings.criteria",
    "share": "budgets.shares",
    "engine": "speed.engines",
    "objective": "recovery.objective",
}


@dataclass(frozen=True)
class Prepared:
    """What an audit will do, after everything that can be known beforehand was checked."""

    layout: Layout
    config: Config
    directory: Path
    threads: int
    wanted: list[Wanted]
    budgets: list[Budget]
    asked: list[Asked]
    limits: Mapping[str, float]
    missing: list[NotExamined]


def default_directory(model: str) -> Path:
    """``./audit-<model name>``."""
    return Path(f"audit-{Path(model).name or 'model'}")


def prepare(model: str, directory: Path, config: Config, fail_on: str | None = None) -> Prepared:
    """Check everything that can be wrong before any work.

    Raises:
        AuditError: a gate without its evaluation, an unknown ``fail_on``, or a directory that is not this model's.
        GatenormError: a model, a criterion, data, an engine or a budget that cannot be had.
    """
    with fields_named(_KEYS):
        return _prepare(model, directory, config, fail_on)


def _prepare(model: str, directory: Path, config: Config, fail_on: str | None) -> Prepared:
    layout = api.open_model(model)
    check_apart(directory, layout.checkpoint.directory)
    check_directory(directory, layout.identity())
    refusal = layout.refusal()
    if refusal:
        raise PlanError("not-prunable", f"this {layout.model_type} model cannot be pruned: {refusal}")
    runs = Architecture.of(layout).runs and find_spec("torch") is not None and find_spec("transformers") is not None
    if runs:
        from gatenorm.models.loading import check_hardware

        check_hardware(config.run.device, config.run.dtype)
    rankings = wanted(config, runs=runs)
    found, left_out = budgets(layout, config.budgets, config.rankings.protect)
    if not found:
        raise PlanError("no-budget", f"no budget is left: {'; '.join(left_out) or 'none was asked for'}")
    asked, missing = evaluations(layout, config.evaluation, runs=runs)
    missing += [NotExamined(f"a budget of {line.partition(':')[0]}", line.partition(": ")[2]) for line in left_out]
    for engine in config.speed.engines if runs else ():
        kind = engine_named(engine, "times")
        if not kind.installed:
            raise MissingExtraError(f"the engine {engine}", kind.package, kind.extra)
    available = {a.feeds for a in asked} | _measured(config, runs=runs)
    active = {name: limit for name, limit in limits(config.gates).items() if gates()[name].needs in available}
    _check_gates(config, available, active, fail_on)
    for module, package in (("jinja2", "jinja2"), ("altair", "altair"), ("vl_convert", "vl-convert-python")):
        if find_spec(module) is None:
            raise MissingExtraError("the report", package, "report")
    recovery = config.recovery
    if recovery.data is not None and not named_text(recovery.data) and not recovery.data.startswith(HUB):
        with fields_named({"data": "recovery.data"}):
            read_text(recovery.data)
    if recovery.enabled:
        if find_spec("peft") is None:
            raise MissingExtraError("recovery", "peft", "recover")
        if recovery.objective not in (None, *OBJECTIVES):
            raise AuditError(
                "objective-unknown",
                "is not known",
                field="recovery.objective",
                given=recovery.objective,
                hint=did_you_mean(str(recovery.objective), OBJECTIVES),
            )
        if recovery.data is None and language_of(layout.checkpoint.directory) is None:
            raise AuditError("data-missing", "is missing", field="recovery.data", expected="a text to train on")
    small = sum(layout.checkpoint.files.values()) < _SMALL_BYTES
    threads = config.run.threads or (1 if small else threads_at_hand())
    return Prepared(layout, config, directory, threads, rankings, found, asked, active, missing)


def run_audit(
    model: str | os.PathLike[str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    config: Config | None = None,
    *,
    fail_on: str | None = None,
    listener: Listener | None = None,
) -> Audit:
    """Audit a model: score, prune, measure, judge; ``audit.json`` in ``directory`` is the result, a report lies beside.

    The directory is the state: an audit that was stopped, however, goes on where it was, and nothing that was measured
    is measured again.

    Args:
        model: a directory, a model id of the hub, or the name of an installed model; by default the built-in one.
        directory: ``./audit-<model name>`` by default.
        config: what to do; :func:`gatenorm.audit.plan.config.read_config` reads one from a file.
        fail_on: a gate whose failure the caller will act on, or ``any``; checked here, judged by :func:`failed`.
        listener: called with events, see :mod:`gatenorm.audit.run.progress`.

    Raises:
        AuditError: a gate without its evaluation, a directory that is another model's or in another process's hands.
        OutputError: no space left, or a place that cannot be written.
        GatenormError: a model, a criterion, data or an engine that cannot be had.
    """
    from gatenorm.audit.output.output import audit_of, write_audit

    named = default_model() if model is None else os.fspath(model)
    out = Path(directory) if directory is not None else default_directory(named)
    prepared = prepare(named, out, config or Config(), fail_on)
    with lock(out), writing(out):
        state = State(out)
        state.clear()
        began = claim(out, prepared.layout.identity(), _version())
        write_json(out / CONFIG_FILE, to_json(prepared.config), parents=True)
        content = prepared.layout.checkpoint.fingerprint()
        reporter = Reporter(listener)
        with executor(prepared.config.run, prepared.threads) as workers:
            measuring = Measuring(prepared.layout, content, prepared.config, prepared.threads, state, workers, reporter)
            work = Workflow(measuring, prepared.wanted, prepared.budgets, prepared.asked, dict(prepared.limits))
            work.score()
            work.build()
            work.perplexity_and_tasks()
            work.workload()
            work.refusal_and_retrieval()
            work.speed()
            work.recover()
        audit = audit_of(work, prepared.missing, began, named)
        files = write_audit(audit, out)
        reporter.finished(audit.verdict, audit.chosen, [str(path) for path in files])
    return audit


def failed(audit: Audit, fail_on: str) -> list[str]:
    """The candidates that do not pass a gate (any gate, by ``any``), with what the gate says, one line each.

    Judged is the variant that the verdict recommends; where it recommends none, every candidate.
    """
    judged = [v for v in audit.variants if v.role == CANDIDATE]
    if audit.chosen is not None:
        judged = [v for v in judged if v.name == audit.chosen]
    lines: list[str] = []
    for variant in judged:
        before = len(lines)
        against = [g for g in variant.gates if g.outcome != PASSES and fail_on in (ANY, g.gate)]
        lines += [f"{variant.name}: {g.gate} {g.outcome} ({g.detail})" for g in against]
        if variant.rejected:
            lines.append(f"{variant.name}: {variant.rejected}")
        if fail_on == ANY and len(lines) == before and variant.outcome != PASSES:
            lines.append(f"{variant.name}: {variant.outcome}, since no gate about quality was held against a figure")
    return lines


def _check_gates(config: Config, available: set[str], active: Mapping[str, float], fail_on: str | None) -> None:
    for name, limit in config.gates.items():
        if limit is not None and name not in active:
            needs = gates()[name].needs
            raise AuditError(
                "gate-not-measured",
                f"needs an evaluation that is not asked for ({needs})",
                field=f"gates.{name}",
                hint=_how(needs),
            )
    gate = config.search.gate
    if gate is not None:
        if gate not in gates() or not gates()[gate].probes:
            known = [name for name, one in gates().items() if one.probes]
            raise AuditError(
                "gate-not-searchable",
                "cannot be searched by",
                field="search.gate",
                given=gate,
                hint=did_you_mean(gate, known),
            )
        if gate not in active:
            raise AuditError(
                "gate-not-measured",
                f"needs an evaluation that is not asked for ({gates()[gate].needs})",
                field="search.gate",
                given=gate,
                hint=_how(gates()[gate].needs),
            )
    if fail_on is not None and fail_on != ANY and fail_on not in active:
        raise AuditError(
            "gate-unknown",
            "is not a gate of this audit",
            field="fail_on",
            given=fail_on,
            hint=did_you_mean(fail_on, [ANY, *active]),
        )


_HOW = {
    "texts": f"give a text as {named('evaluation.texts')}",
    "tasks": f"give zero-shot files as {named('evaluation.zeroshot')}",
    "domain": f"give your workload as {named('evaluation.domain')}",
    "refusal": f"set {named('evaluation.refusal')} to packaged or a file",
    "retrieval": f"set {named('evaluation.retrieval')} to true",
    "speed": f"name an engine in {named('speed.engines')}, such as transformers",
    "verify": f"name an engine in {named('speed.engines')} that reads exports, such as llamacpp",
}


def _how(needs: str) -> str:
    return _HOW.get(needs, f"add {needs} to {named('evaluation.others')}")


def _measured(config: Config, *, runs: bool) -> set[str]:
    """What step 6 will measure."""
    if not runs or not config.speed.engines:
        return set()
    exports = any("transformers" not in engine_named(e).reads for e in config.speed.engines)
    return {"speed", *(["verify"] if exports else [])}


def _version() -> str:
    from importlib.metadata import version

    return version("gatenorm")
