"""The parts of an audit's work: how many jobs of which kind, and how long they will take on this machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gatenorm.api.fitting import JUDGE_SAMPLES, JUDGE_WINDOW, SAMPLES, WINDOW
from gatenorm.audit.plan.engine_form import form_for
from gatenorm.audit.plan.evaluations import PERPLEXITY, PlannedEvaluation
from gatenorm.audit.plan.memory_use import side_by_side
from gatenorm.audit.plan.pace import Pace
from gatenorm.audit.plan.prepare import AuditPlan
from gatenorm.audit.plan.rankings import PlannedRanking
from gatenorm.calibration.samples import SELF
from gatenorm.calibration.sources.self_text import BATCH
from gatenorm.criteria.registry import forward_criteria
from gatenorm.models.architecture import Work
from gatenorm.records import REMOVE
from gatenorm.records.audit import Setting, StepName
from gatenorm.records.numbers import quantity
from gatenorm.records.recovery_settings import Settings
from gatenorm.recovery.cost import training_passes
from gatenorm.speed.measure.bench import DEFAULT_LENGTHS
from gatenorm.speed.measure.turns import TURN_SECONDS

# What jobs that are not an evaluation are like.
BUILD, FIT, EXPORT, RECOVER = "build", "fit", "export", "recover"
# Bytes that are written in a second, decoded or not.
_WRITES = 100e6
# Of fewer items nothing can be said.
_FEWEST = 8
# What to set to leave a part out, or to make it shorter; evaluations declare it.
_SCORING, _FITTING = Setting("rankings.samples", "8"), Setting("budgets.replace", REMOVE)
_TIMING, _TRAINING = Setting("speed.engines", "none"), Setting("recovery.steps", "200")


@dataclass(frozen=True)
class Alike:
    """So many jobs that take about as long as each other; ``more`` ones if a further ranking gets candidates."""

    like: str
    jobs: int
    seconds: float
    more: int = 0


@dataclass(frozen=True)
class Part:
    """What the plan has a line for; ``shorter`` is the setting that leaves it out, or makes it shorter."""

    step: StepName
    what: str
    jobs: tuple[Alike, ...]
    shorter: Setting | None = None

    @property
    def title(self) -> str:
        """What is done, without details."""
        return self.what.partition(":")[0]

    @property
    def seconds(self) -> float:
        return sum(one.jobs * one.seconds for one in self.jobs)

    @property
    def more_seconds(self) -> float:
        return sum(one.more * one.seconds for one in self.jobs)


# How long so many passes take.
Seconds = Callable[[Mapping[Work, float]], float]


def reckoned(plan: AuditPlan) -> list[Part]:
    """Every part, in the order of the steps, with the times that this machine is likely to take."""
    run = plan.config.run
    pace = Pace(plan.layout, run.device, run.dtype, plan.threads).seconds if plan.runs else lambda _: 0.0
    return list(parts(plan, pace))


def parts(plan: AuditPlan, seconds: Seconds) -> Iterator[Part]:
    """Every part, by what passes take."""
    config = plan.config
    made, more = plan.candidates, plan.further_candidates
    names = [one.name for one in plan.rankings]
    what = f"rank the layers {len(names)} times: {', '.join(names)}"
    jobs = tuple(Alike(one.like, 1, seconds(_scoring(plan, one))) for one in plan.rankings)
    yield Part(StepName.SCORE, what, jobs, _SCORING)

    counts = ", ".join(str(budget.count) for budget in plan.budgets)
    fits = sum(operation != REMOVE for budget in plan.budgets for operation in budget.operations)
    tested = len(plan.requested)
    sublayers = "attention sublayer" + ("" if counts == "1" else "s")
    made_of = quantity(made, "candidate")
    what = f"write {made_of}, or more if another ranking is better supported: {counts} {sublayers}"
    copies = Alike(BUILD, made - tested * fits, plan.layout.nbytes / _WRITES, more - plan.further_rankings * fits)
    fitted = Alike(FIT, tested * fits, seconds(_fitting(plan)) + copies.seconds, plan.further_rankings * fits)
    yield Part(StepName.BUILD, what, (copies, fitted), _FITTING if fits else None)

    others = (len(names) - tested) * len(plan.budgets)
    first = next((one for one in plan.evaluations if one.gate_evaluation == PERPLEXITY), None)
    for one in plan.evaluations:
        what = f"measure {one.name} of each" + (f" (limit {one.options.limit})" if one.options.limit else "")
        times = made + (not one.paired) + (tested + others if one is first else 0)
        alike = Alike(one.like, times, seconds(one.passes), more)
        yield Part(one.step, what, (alike,), _shorter(one))

    if config.speed.engines and plan.runs:
        lengths = ", ".join(f"{n:,}" for n in config.speed.lengths) or "up to 2,048"
        engines = " and ".join(config.speed.engines)
        what = f"time each in {engines}: prompts of {lengths} tokens, {config.speed.rounds} rounds"
        yield Part(StepName.SPEED, what, tuple(_timing(plan, seconds, made, more)), _TIMING)
    if config.recovery.enabled:
        trained = tested * plan.trained_per_ranking
        asked = config.recovery
        settings = Settings(steps=asked.steps or Settings.steps, objective=asked.objective or Settings.objective)
        training = Alike(RECOVER, trained, seconds(training_passes(settings, plan.layout.context)))
        again = tuple(Alike(one.like, trained, seconds(one.passes)) for one in plan.evaluations)
        what = f"train {trained} candidates and measure them again"
        yield Part(StepName.RECOVERY, what, (training, *again), _TRAINING)


def _scoring(plan: AuditPlan, ranking: PlannedRanking) -> Mapping[Work, float]:
    """From weights: next to nothing."""
    if ranking.source is None:
        return {}
    settings, passes = plan.config.rankings, forward_criteria()[ranking.criterion].passes
    length = min(settings.length, plan.layout.context or settings.length)
    return windows_read(ranking.source, settings.samples, length, passes(len(plan.layout.attention_layers)))


def windows_read(source: str, samples: int, length: int, times: float = 1.0) -> dict[Work, float]:
    """Reading windows so many times, which the model may have to write first."""
    passes = {Work.prefill(length): samples * times}
    if source == SELF:
        passes[Work.decode(length // 2, min(BATCH, samples))] = float(math.ceil(samples / BATCH) * length)
    return passes


def _fitting(plan: AuditPlan) -> Mapping[Work, float]:
    """A pass over what is fitted on, and two for every edit over what it is judged on, half of the layers in each."""
    passes: dict[Work, float] = {}
    context = plan.layout.context or WINDOW
    every = [(source, SAMPLES, min(WINDOW, context)) for source in plan.config.budgets.fit]
    for source, samples, length in [*every, (SELF, JUDGE_SAMPLES, min(JUDGE_WINDOW, context))]:
        for work, count in windows_read(source, samples, length).items():
            passes[work] = passes.get(work, 0.0) + count
    largest = max(budget.count for budget in plan.budgets)
    judged = Work.prefill(min(JUDGE_WINDOW, context))
    # 1,024 tokens of each source.
    passes[judged] = passes.get(judged, 0.0) + 1024 / judged.tokens * (len(every) + 1) * (largest + 1)
    return passes


def _timing(plan: AuditPlan, seconds: Seconds, made: int, more: int) -> Iterator[Alike]:
    """Turns of at least half a second for every model, case and round; where an engine reads exports, these too."""
    speed, room = plan.config.speed, (plan.layout.context or 1 << 30) - plan.config.speed.new_tokens
    lengths = speed.lengths or [n for n in DEFAULT_LENGTHS if n <= room] or [room]
    turns = 0.0
    for length in lengths:
        for batch in speed.batches:
            passes = {Work.prefill(length, batch): 1.0, Work.decode(length, batch): float(speed.new_tokens)}
            turns += max(TURN_SECONDS, seconds(passes))
    group = side_by_side(plan) - 1
    for engine in speed.engines:
        if form_for(engine):
            yield Alike(EXPORT, made + 1, 2 * plan.layout.nbytes / _WRITES, more)
        models = made + math.ceil(made / group)
        jobs, later = math.ceil(made / group), math.ceil((made + more) / group) - math.ceil(made / group)
        yield Alike(f"speed {engine}", jobs, turns * (1 + speed.rounds) * models / jobs, later)


def _shorter(one: PlannedEvaluation) -> Setting | None:
    """The setting that leaves an evaluation out, or halves it at least; ``None`` where it is short already."""
    role = one.role
    if role.off:
        return Setting(f"evaluation.{role.key}", role.off)
    few = min(role.few, (one.options.limit or 2 * role.few) // 2)
    return Setting(f"evaluation.{role.limit}", str(few)) if few >= _FEWEST else None
