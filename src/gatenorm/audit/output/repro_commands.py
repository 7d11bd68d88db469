"""Commands that repeat by hand what an audit did, ready to be pasted into a shell."""

import shlex
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path

from gatenorm.api.opening import open_model
from gatenorm.audit.judge.gates import PERPLEXITY_RISE, gates
from gatenorm.audit.plan.config import Run
from gatenorm.audit.plan.engine_form import UNPRUNED, export_path, form_for
from gatenorm.audit.plan.evaluations import PlannedEvaluation
from gatenorm.audit.run.variant import Variant
from gatenorm.audit.run.workflow import Workflow
from gatenorm.audit.state import CONFIG_FILE
from gatenorm.checkpoint.dtypes import COMPUTED
from gatenorm.engines import engine_named
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.exports.registry import export_form
from gatenorm.models.named import training_source
from gatenorm.records import REMOVE
from gatenorm.records.audit import FAILS, INCONCLUSIVE, QUALITY, SPEED, GateResult, StepName, Verdict
from gatenorm.records.provenance import Command

# Of a request, what the command line calls by the same names.
_REPEATED = ("limit", "window", "stride", "spread", "documents", "text_field", "new_tokens", "refusal_rule")


def whole(work: Workflow, model: str) -> str:
    """The audit itself, with the configuration that its directory keeps."""
    directory = work.cache.state.directory
    return _joined("gatenorm", "audit", model, "-o", directory, "--config", directory / CONFIG_FILE)


def of_evaluations(work: Workflow, model: str) -> tuple[Command, ...]:
    """One command for every evaluation of every candidate that was not rejected."""
    return tuple(
        Command(what=f"{planned.name}: {variant.name}", command=_evaluation(work, planned, variant, model))
        for variant in work.candidates
        if not variant.rejected
        for planned in work.plan.evaluations
    )


def next_step(
    work: Workflow, verdict: Verdict, judged: Sequence[GateResult], chosen: str | None, model: str
) -> Command | None:
    """What to do now: use the recommended variant, or repeat the audit with what would decide; ``None``: nothing would.

    Whatever the audit measured before is not measured again.

    Args:
        judged: what the gates say of the variant that the verdict is about.
    """
    about = next((c for c in work.candidates if c.name == verdict.about), None)
    if about is not None and chosen is not None:
        return _use(work, about, model)
    config = work.config
    open_ones = {j.aspect for j in verdict.judgements if j.outcome == INCONCLUSIVE}
    failing = {j.aspect for j in verdict.judgements if j.outcome == FAILS}
    if SPEED in open_ones and not failing:
        rounds = 3 * config.speed.rounds
        return Command(what=f"time {rounds} rounds", command=f"{whole(work, model)} --rounds {rounds}")
    limits = _more_items(work, judged)
    if open_ones and not failing and limits:
        return Command(what="judge by more items", command=f"{whole(work, model)} --limit {limits}")
    if QUALITY in failing and config.search.gate is None and PERPLEXITY_RISE in work.plan.limits:
        what = "search for a smaller budget that passes"
        return Command(what=what, command=f"{whole(work, model)} --search {PERPLEXITY_RISE}")
    fewer = min(budget.count for budget in work.plan.budgets) // 2
    if failing and fewer:
        return Command(what="try a smaller budget", command=f"{whole(work, model)} --layers {fewer}")
    return None


def _more_items(work: Workflow, judged: Sequence[GateResult]) -> str:
    """``text=32,refusal=128``: limits that would settle what is inconclusive; empty where all items were taken."""
    open_ones = {gates()[g.gate].needs for g in judged if g.outcome == INCONCLUSIVE and not g.by_chance}
    limits: dict[str, int] = {}
    for planned in work.plan.evaluations:
        key, limit = planned.role.limit, planned.options.limit
        if planned.gate_evaluation in open_ones and key and limit:
            name = key.removesuffix("_limit")
            limits[name] = max(4 * limit, limits.get(name, 0))
    return ",".join(f"{name}={limit}" for name, limit in limits.items())


def _use(work: Workflow, variant: Variant, model: str) -> Command:
    """For llama.cpp, where the directory can be written for it here; otherwise it is timed once more."""
    form = export_form("gguf")
    if find_spec("gguf") is not None and not form.obstacles(open_model(work.directory(variant))):
        out = work.cache.state.directory / f"{variant.name}.gguf"
        command = _joined("gatenorm", "export", work.directory(variant), "--to", "gguf", "-o", out)
        return Command(
            what="write it for llama.cpp (transformers and vLLM read the directory as it is)", command=command
        )
    command = _joined("gatenorm", "bench", work.directory(variant), "--baseline", model, *_hardware(work))
    return Command(what="time it beside the unpruned model", command=command)


def of_step(work: Workflow, step: StepName, model: str) -> str:
    """A command that repeats a step for the first candidate; empty where there is none, and for evaluations."""
    first = next(iter(work.candidates), None)
    if step == StepName.SCORE:
        return _comparison(work, model)
    if first is None:
        return ""
    if step == StepName.BUILD:
        return _pruning(work, first, model)
    if step == StepName.SPEED and work.config.speed.engines:
        return _timing(work, model)
    if step == StepName.RECOVERY and work.config.recovery.enabled:
        return _recovery(work, first, model)
    return ""


def _pruning(work: Workflow, variant: Variant, model: str) -> str:
    head = ("gatenorm", "prune", model, "--drop", _listed(variant.edited_attention), "-o", "VARIANT")
    if variant.operation == REMOVE:
        return _joined(*head)
    fitted = ("--replace", variant.operation, "--fit", ",".join(work.config.budgets.fit))
    return _joined(*head, *fitted, *_hardware(work))


def _comparison(work: Workflow, model: str) -> str:
    settings, ranked = work.config.rankings, [one for one in work.plan.rankings if not one.baseline]
    names = ",".join(f"{one.criterion}@{one.source}" if one.source else one.criterion for one in ranked)
    several = len(ranked) > 1
    head = ("gatenorm", *(("compare", model, "--criteria") if several else ("score", model, "--criterion")), names)
    seed = ("--seed", work.config.run.seed)
    if not several and not ranked[0].source:  # it reads weights alone
        return _joined(*head, *seed)
    return _joined(*head, "--samples", settings.samples, "--length", settings.length, *seed, *_hardware(work))


def _evaluation(work: Workflow, planned: PlannedEvaluation, variant: Variant, model: str) -> str:
    parts: list[str] = []
    for data in planned.data:
        parts += ["--data", data]
    for name in _REPEATED:
        value = getattr(planned.options, name)
        if value is not None and value != getattr(TaskOptions(), name):
            parts += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    head = ("gatenorm", "eval", work.directory(variant), "--baseline", model, "--tasks", planned.task)
    return _joined(*head, *parts, *_hardware(work))


def _timing(work: Workflow, model: str) -> str:
    """For the first engine chosen and the first candidate that was timed in it; exports where it reads those."""
    settings = work.config.speed
    engine = settings.engines[0]
    timed = next((c for c in work.candidates if c.timed_in(engine)), None)
    if timed is None:
        return ""
    form = form_for(engine)
    if form is None:
        variant, unpruned = str(work.directory(timed)), model
    else:
        variant, unpruned = (str(export_path(work.cache.state.directory, n, form)) for n in (timed.name, UNPRUNED))
    lists = {"--lengths": settings.lengths, "--batches": settings.batches if settings.batches != (1,) else ()}
    parts = [part for option, values in lists.items() if values for part in (option, _listed(values))]
    parts += ["--new-tokens", str(settings.new_tokens), "--rounds", str(settings.rounds)]
    parts += ["--threads", str(work.plan.threads), *_hardware(work, engine_named(engine, "times").dtypes)]
    return _joined("gatenorm", "bench", variant, "--baseline", unpruned, "--engine", engine, *parts)


def _recovery(work: Workflow, variant: Variant, model: str) -> str:
    settings = work.config.recovery
    options = {"--steps": settings.steps, "--objective": settings.objective}
    parts = [part for option, value in options.items() if value is not None for part in (option, str(value))]
    data = training_source(work.cache.layout, settings.data)
    head = ("gatenorm", "recover", work.directory(variant), "-o", "RECOVERED", "--data", data)
    return _joined(*head, "--parent", model, *parts, *_hardware(work))


def _hardware(work: Workflow, dtypes: Collection[str] = COMPUTED) -> list[str]:
    """The options that say on what, where they are not the default ones and are understood."""
    run, default = work.config.run, Run()
    parts = ["--device", run.device] if run.device != default.device else []
    return parts + (["--dtype", run.dtype] if run.dtype != default.dtype and run.dtype in dtypes else [])


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _joined(*parts: str | int | Path) -> str:
    return shlex.join(map(str, parts))
