"""From a configuration to the plan of an audit: whatever can be wrong is reported before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gatenorm import api
from gatenorm.api.fitting import fit_calibrations
from gatenorm.audit.judge.gates import SPEED_UP, gates, limits
from gatenorm.audit.judge.selection import ANY
from gatenorm.audit.plan.budgets import Budget, budgets, with_operations
from gatenorm.audit.plan.config import Config, Recovery
from gatenorm.audit.plan.engine_form import form_for
from gatenorm.audit.plan.evaluations import PlannedEvaluation, asked_by, evaluations
from gatenorm.audit.plan.rankings import PlannedRanking, check_text, planned_rankings
from gatenorm.audit.state import check_directory
from gatenorm.calibration.samples import HUB
from gatenorm.engines import engine_named, threads_at_hand
from gatenorm.errors import AuditError, MissingExtraError, PlanError, fields_named, named
from gatenorm.evaluation.core.text import GENERIC, read_text
from gatenorm.families import Layout
from gatenorm.files import check_apart
from gatenorm.models.architecture import Architecture
from gatenorm.models.model import TRANSFORMERS, is_file
from gatenorm.models.named import language_of, named_text, reads_text
from gatenorm.records import ATTENTION
from gatenorm.records.audit import NotExamined, Setting, StepName
from gatenorm.records.recovery_settings import OBJECTIVES
from gatenorm.recovery.drawn_text import drawn_sources

# Matrices of models this small keep one processor busy; a second one mostly waits for it.
_SMALL_BYTES = 64 << 20
# What the functions below call the keys of the configuration.
_KEYS = {
    **{name: f"run.{name}" for name in ("device", "dtype", "batch_size", "threads", "seed")},
    **{name: f"budgets.{name}" for name in ("layers", "target_speedup", "max_cache_gb", "machine", "context", "batch")},
    **{name: f"rankings.{name}" for name in ("criteria", "protect", "calibration", "samples", "length")},
    "criterion": "rankings.criteria",
    "share": "budgets.shares",
    "fit": "budgets.fit",
    **dict.fromkeys(("replace", "rank"), "budgets.replace"),
    "engine": "speed.engines",
    "objective": "recovery.objective",
}
# How to ask for what a gate needs that rests on no evaluation.
_HOW = {
    "speed": f"name an engine in {named('speed.engines')}, such as transformers",
    "verify": f"name an engine in {named('speed.engines')} that reads exports, such as llamacpp",
}
# Of a model with a language of its own, where no limit is given.
_UNJUDGED = NotExamined.unless(
    StepName.SPEED,
    "whether it becomes faster by enough",
    "a model this small is timed in fractions of a millisecond, which tells nothing of larger ones",
    Setting(f"gates.{SPEED_UP}", "1.02"),
)


@dataclass(frozen=True)
class AuditPlan:
    """What an audit will do, after everything that can be known beforehand was checked; ``runs``: the model can be."""

    layout: Layout
    config: Config
    directory: Path
    threads: int
    runs: bool
    rankings: list[PlannedRanking]
    budgets: list[Budget]
    evaluations: list[PlannedEvaluation]
    limits: dict[str, float]
    missing: list[NotExamined]

    @property
    def requested(self) -> list[PlannedRanking]:
        """The rankings that were asked for, which get candidates from the start."""
        return [one for one in self.rankings if not one.check and not one.baseline]

    @property
    def further_rankings(self) -> int:
        """How many more may get candidates: one, if a check is better supported."""
        return 1 if any(one.check for one in self.rankings) else 0

    @property
    def candidates_per_ranking(self) -> int:
        return sum(len(budget.operations) for budget in self.budgets)

    @property
    def candidates(self) -> int:
        """How many are made from the start."""
        return len(self.requested) * self.candidates_per_ranking

    @property
    def further_candidates(self) -> int:
        """How many more there may be."""
        return self.further_rankings * self.candidates_per_ranking

    @property
    def trained_per_ranking(self) -> int:
        """How many of these recovery trains."""
        recovery, present = self.config.recovery, len(self.layout.removable(ATTENTION))
        few = [b for b in self.budgets if recovery.enabled and b.count / present >= recovery.from_share]
        return sum(len(budget.operations) for budget in few)


def prepare(model: str, directory: Path, config: Config, fail_on: str | None = None) -> AuditPlan:
    """Check everything that can be wrong before any work.

    Raises:
        AuditError: a gate without its evaluation, an unknown ``fail_on``, or a directory that is not this model's.
        GatenormError: a model, a criterion, data, an engine or a budget that cannot be had.
    """
    with fields_named(_KEYS):
        return _prepare(model, directory, config, fail_on)


def _prepare(model: str, directory: Path, config: Config, fail_on: str | None) -> AuditPlan:
    layout = api.open_model(model)
    if layout.checkpoint.form != TRANSFORMERS:
        raise is_file(layout)
    check_apart(directory, layout.checkpoint.directory)
    check_directory(directory, layout.identity())
    refusal = layout.refusal()
    if refusal:
        raise PlanError("not-prunable", f"this {layout.model_type} model cannot be pruned: {refusal}")
    runs = Architecture.of(layout).runs and find_spec("torch") is not None and find_spec("transformers") is not None
    if runs:
        from gatenorm.models.loading import check_hardware

        check_hardware(config.run.device, config.run.dtype)
    reads = runs and reads_text(layout)
    rankings = planned_rankings(config, runs=runs, reads=reads)
    possible, left_out = budgets(layout, config.budgets, config.rankings.protect)
    if not possible:
        reasons = "; ".join(f"{gap.what}: {gap.why}" for gap in left_out)
        raise PlanError("no-budget", f"no budget is left: {reasons or 'none was given'}")
    possible, without = with_operations(possible, layout, config.budgets.replace, runs=runs)
    for tokens in fit_calibrations(config.budgets.fit):
        check_text(tokens.source, "budgets.fit")
    packaged = reads and not _trains_on_generic(config.recovery)
    threads = config.run.threads or (1 if layout.nbytes < _SMALL_BYTES else threads_at_hand())
    on_processor = threads if config.run.device == "cpu" else None
    planned, missing = evaluations(layout, config.evaluation, runs=runs, packaged=packaged, threads=on_processor)
    missing += left_out + without
    for engine in config.speed.engines if runs else ():
        kind = engine_named(engine, "times")
        if not kind.installed:
            raise MissingExtraError(f"the engine {engine}", kind.package, kind.extra)
    available = {one.gate_evaluation for one in planned} | _measured(config, runs=runs)
    active = {name: limit for name, limit in limits(config.gates).items() if gates()[name].needs in available}
    if SPEED_UP in active and SPEED_UP not in config.gates and language_of(layout.checkpoint) is not None:
        del active[SPEED_UP]
        missing.append(_UNJUDGED)
    if fail_on == SPEED_UP and _UNJUDGED in missing:
        problem = f"is not a gate of this audit: {_UNJUDGED.why}"
        raise AuditError("gate-not-judged", problem, field="fail_on", given=fail_on, hint=_UNJUDGED.how)
    _check_gates(config, active, fail_on)
    for module, package in (("jinja2", "jinja2"), ("altair", "altair"), ("vl_convert", "vl-convert-python")):
        if find_spec(module) is None:
            raise MissingExtraError("the report", package, "audit")
    from gatenorm.report.figures.rendering import check_memory

    check_memory()
    _check_recovery(config.recovery, layout)
    return AuditPlan(layout, config, directory, threads, runs, rankings, possible, planned, active, missing)


def _trains_on_generic(recovery: Recovery) -> bool:
    """What a model was trained on cannot judge it."""
    return recovery.enabled and GENERIC in (recovery.data or "").split(",")


def _check_recovery(recovery: Recovery, layout: Layout) -> None:
    if recovery.data is not None and not named_text(recovery.data) and not recovery.data.startswith(HUB):
        with fields_named({"data": "recovery.data"}):
            if not drawn_sources(recovery.data):
                read_text(recovery.data)
    if not recovery.enabled:
        return
    if find_spec("peft") is None:
        raise MissingExtraError("recovery", "peft", "recover")
    objective = recovery.objective
    if objective not in (None, *OBJECTIVES):
        raise AuditError.unknown("recovery.objective", objective, OBJECTIVES, "objective-unknown")
    if recovery.data is None and language_of(layout.checkpoint) is None:
        expected = "a text to train on, generic, self or both"
        raise AuditError("data-missing", "is missing", field="recovery.data", expected=expected)


def _check_gates(config: Config, active: Mapping[str, float], fail_on: str | None) -> None:
    for name, limit in config.gates.items():
        if limit is not None:
            _check_measured(name, active, f"gates.{name}")
    gate = config.search.gate
    if gate is not None:
        searchable = [name for name, one in gates().items() if one.probes]
        if gate not in searchable:
            raise AuditError.unknown("search.gate", gate, searchable, "gate-not-searchable", "cannot be searched by")
        _check_measured(gate, active, "search.gate", given=gate)
    if fail_on is not None and fail_on not in (ANY, *active):
        problem = "is not a gate of this audit"
        raise AuditError.unknown("fail_on", fail_on, [ANY, *active], "gate-unknown", problem)


def _check_measured(gate: str, active: Mapping[str, float], field: str, given: str | None = None) -> None:
    if gate in active:
        return
    needs = gates()[gate].needs
    problem = f"needs an evaluation that is not asked for ({needs})"
    hint = _HOW.get(needs) or asked_by(needs).words(named)
    raise AuditError("gate-not-measured", problem, field=field, given=given, hint=hint)


def _measured(config: Config, *, runs: bool) -> set[str]:
    """What step 6 will measure."""
    if not runs or not config.speed.engines:
        return set()
    exports = any(form_for(engine) for engine in config.speed.engines)
    return {"speed", *(["verify"] if exports else [])}
