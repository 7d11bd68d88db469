"""From a finished workflow to the audit's record, and from that to files."""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from gatenorm.analysis.diagnostics import curve_signatures
from gatenorm.audit.judge.baseline_check import check_baselines, warning_of
from gatenorm.audit.judge.cost_benefit import cost_benefit
from gatenorm.audit.judge.gates import SPEED_UP, TASK_DROP
from gatenorm.audit.judge.ranking import comparison
from gatenorm.audit.judge.verdict import verdict
from gatenorm.audit.output import repro_commands as commands
from gatenorm.audit.output.audited_variant import audited
from gatenorm.audit.output.model_card import write_card
from gatenorm.audit.run.jobs import software
from gatenorm.audit.run.workflow import Workflow
from gatenorm.files import write_json
from gatenorm.findings import Findings, findings
from gatenorm.records import Diagnostic, Evidence, to_json
from gatenorm.records.audit import DONE, NOT_DONE, PARTLY, PASSES, PRUNED, Audit, AuditedVariant, Step, StepName
from gatenorm.records.evidence import (
    FewLayersShared,
    Measurements,
    NotBeaten,
    Perplexity,
    TaskEvidence,
    UnevenTasks,
    of_type,
)
from gatenorm.records.numbers import quantity
from gatenorm.records.provenance import Machine, Provenance
from gatenorm.report.page import write_report
from gatenorm.results.hashes import code_sha256

AUDIT_FILE = "audit.json"
# A task that got worse by more than chance explains.
_UNLIKELY = 0.05


def audit_of(work: Workflow, began: float, model: str) -> Audit:
    """The record of everything that a workflow found."""
    layout, config = work.layout, work.config
    assert work.best is not None
    variants = []
    for variant in (*work.candidates, *work.comparisons):
        least, (price, currency) = work.plan.limits.get(SPEED_UP), (config.cost.price_per_hour, config.cost.currency)
        saved = cost_benefit(work.baseline, variant.records, price=price, currency=currency, least=least)
        variants.append(audited(layout, variant, work.baseline, work.plan.limits, saved))
    first = work.plan.rankings[0].name
    checks = check_baselines(variants, work.baseline, [first, work.best.ranking])
    said, chosen = verdict(variants, work.best, first, checks)
    judged = next((variant.gates for variant in variants if variant.name == said.about), ())
    scores = tuple(work.scores.values())
    return Audit(
        model=layout.identity(),
        verdict=replace(said, next=commands.next_step(work, said, judged, chosen, model)),
        chosen=chosen,
        steps=_steps(work, model),
        variants=tuple(variants),
        baseline=Measurements(findings(work.baseline, ()).before),
        scores=scores,
        warnings=tuple(_warnings(work, variants, checks)),
        not_examined=tuple(work.not_examined),
        config=to_json(config),
        provenance=_provenance(work, began, model),
        best_supported=work.best,
        cross_check=work.cross_check,
        comparison=comparison(layout, scores),
        search=work.search,
        version=software()["gatenorm"],
    )


def write_audit(audit: Audit, directory: Path) -> list[Path]:
    """Write ``audit.json``, the reports and the variants' model cards; returns the files, the report first.

    Raises:
        OutputError: no space left, or a file that cannot be written.
    """
    for variant in audit.variants:
        if variant.directory and (directory / variant.directory / "README.md").is_file():
            write_card(directory / variant.directory, variant, audit.model.name)
    record = directory / AUDIT_FILE
    write_json(record, to_json(audit), parents=True)
    return [write_report(audit, directory), record]


def _steps(work: Workflow, model: str) -> tuple[Step, ...]:
    made = {StepName.SCORE, StepName.BUILD}  # whatever ranking or variant is left out
    done = made | {planned.step for planned in work.plan.evaluations}
    done |= {StepName.SPEED} if work.config.speed.engines else set()
    done |= {StepName.RECOVERY} if work.config.recovery.enabled else set()
    gaps = {gap.step for gap in work.not_examined} - made
    steps = []
    for name in StepName:
        evaluations = ", ".join(planned.name for planned in work.plan.evaluations if planned.step == name)
        steps.append(
            Step(
                name=name,
                status=NOT_DONE if name not in done else PARTLY if name in gaps else DONE,
                detail=work.details.get(name) or evaluations,
                seconds=round(work.cache.seconds.get(name, 0.0), 3),
                command=commands.of_step(work, name, model),
            )
        )
    return tuple(steps)


def _warnings(work: Workflow, variants: Sequence[AuditedVariant], checks: Sequence[NotBeaten]) -> list[Diagnostic]:
    warnings = [*_disagreement(work), *map(warning_of, checks)]
    whole = _perplexity(work.baseline)
    curves: dict[str, dict[int, float]] = {}
    for variant in (*work.candidates, *work.comparisons):
        pruned = _perplexity(variant.records)
        if pruned is not None and whole is not None and variant.state == PRUNED and not variant.plan.replaces:
            curves.setdefault(variant.ranking, {0: whole})[len(variant.edited_attention)] = pruned
    candidates = {variant.ranking for variant in work.candidates}
    for name, curve in curves.items():
        if name in candidates:  # that a random choice fails warns of nothing
            warnings += curve_signatures(name, curve)
    return [*warnings, *(warning for v in variants if (warning := _uneven(v)) is not None)]


def _disagreement(work: Workflow) -> list[Diagnostic]:
    """What the cross-check warns of: where rankings were measured, they are no longer judged by how far they agree."""
    warnings = list(work.cross_check.warnings) if work.cross_check else []
    few = [w.evidence for w in warnings if isinstance(w.evidence, FewLayersShared)]
    others = [w for w in warnings if not isinstance(w.evidence, FewLayersShared)]
    if not few or (work.best is not None and work.best.losses):
        return others
    evidence = replace(few[0], checks=tuple(check for one in few for check in one.checks))
    shared = " and ".join(f"{len(check.shared)} with {check.check}" for check in evidence.checks)
    message = (
        f"of {quantity(evidence.count, 'layer')} that {evidence.criterion} would remove it shares {shared}, "
        "fewer than half: it may be unreliable here"
    )
    return [*others, Diagnostic(message=message, evidence=evidence)]


def _perplexity(records: Sequence[Evidence]) -> float | None:
    return next((e.perplexity for e in of_type(records, Perplexity)), None)


def _uneven(variant: AuditedVariant) -> Diagnostic | None:
    """Tasks that got worse beyond chance although the average passes."""
    gate = next((g for g in variant.gates if g.gate == TASK_DROP), None)
    if gate is None or gate.outcome != PASSES:
        return None
    found, worse = Findings.of_records((), variant.evidence), {}
    for record in of_type(found.after, TaskEvidence):
        change = found.change(record, record.headline)
        if change is not None and change.p is not None and change.p < _UNLIKELY and change.difference < 0:
            worse[record.name] = -100 * change.difference
    if not worse:
        return None
    listed = ", ".join(f"{task} -{points:.1f} points" for task, points in worse.items())
    message = f"{variant.name}: the average of the tasks passes, but some fell by more than chance: {listed}"
    return Diagnostic(message=message, evidence=UnevenTasks(variant=variant.name, tasks=worse, p=_UNLIKELY))


def _provenance(work: Workflow, began: float, model: str) -> Provenance:
    run = work.config.run
    data = {(e.data.name, e.data.sha256): e.data for e in work.baseline if e.data.sha256}
    return Provenance(
        versions=software() | {"python": platform.python_version()},
        code_sha256=code_sha256(),
        model=model,
        content_sha256=work.cache.content,
        machine=Machine(
            platform=platform.platform(),
            processor=platform.machine(),
            processors=os.cpu_count(),
            threads=work.plan.threads,
        ),
        device=run.device,
        dtype=run.dtype,
        executor=run.executor,
        seed=run.seed,
        random_seeds=tuple(w.seed for w in work.plan.rankings if w.criterion == "random"),
        data=tuple(data.values()),
        began=_when(began),
        ended=_when(time.time()),
        command=commands.whole(work, model),
        commands=commands.of_evaluations(work, model),
    )


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
