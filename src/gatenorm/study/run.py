"""A recipe carried out: its measurements one after the other, its claims judged; or what that would take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gatenorm import api
from gatenorm.audit.plan.pace import Pace
from gatenorm.audit.plan.parts import windows_read
from gatenorm.criteria.registry import forward_criteria
from gatenorm.engines import threads_at_hand
from gatenorm.evaluation.core import registry
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.families import Layout
from gatenorm.models.architecture import Work
from gatenorm.progress import Bars, no_bars
from gatenorm.records import ATTENTION
from gatenorm.records.recovery_settings import Settings
from gatenorm.recovery.cost import training_passes
from gatenorm.results import ResultStore, versions
from gatenorm.study import measurements
from gatenorm.study.claims import judged
from gatenorm.study.measurements import Results
from gatenorm.study.recipe import Recipe, Removal, recipe
from gatenorm.study.record import Part, Reproduction
from gatenorm.study.workbench import Workbench
from gatenorm.surgery.planning import check_count


@dataclass(frozen=True)
class Options:
    """What a run may replace of a recipe, where it computes, and where it keeps what it measures.

    ``model``, ``data``, ``calibration`` and ``zeroshot`` stand in for the recipe's own. ``state`` keeps results and
    checkpoints; the common store of results and its folder without one. ``trial``: at most so many of everything.
    """

    model: str | None = None
    data: str | None = None
    calibration: str | None = None
    zeroshot: str | None = None
    state: Path | None = None
    device: str = "cpu"
    dtype: str = "auto"
    batch_size: int | None = None
    trial: int | None = None


def reproduce(name: str, options: Options = Options(), bars: Bars | None = None) -> Reproduction:
    """Carry a recipe out; what was measured before is not measured again.

    Raises:
        StudyError, RecordError: no such recipe, or one that cannot be carried out on this model.
        Others: as the functions of the API that measure.
    """
    asked, bench = _opened(name, options, bars)
    layout, found = bench.session.layout, Results()
    for section in ("rankings", "removal", "speed", "recovery"):
        if getattr(asked, section):
            getattr(measurements, section)(getattr(asked, section), bench, found)
    stand_in = stands_in(asked, layout)
    trial = options.trial is not None
    return Reproduction(
        name=name,
        title=asked.title,
        source=asked.source,
        model=layout.identity(),
        figures=found.figures,
        claims=tuple(judged(claim, found.figures, found.items, bool(stand_in), trial) for claim in asked.claims),
        parts=tuple(found.parts),
        scores=found.scores,
        lines=tuple(found.lines),
        band=tuple(found.band),
        plot=asked.plot,
        stand_in=stand_in,
        data={"text": asked.text, "calibration": asked.calibration.source, "zeroshot": asked.zeroshot},
        versions=versions(),
    )


def estimate(name: str, options: Options = Options()) -> tuple[Recipe, list[Part]]:
    """What a recipe would measure, and about how long that takes here: at most, where rankings choose alike.

    Raises:
        StudyError, RecordError: as :func:`reproduce`.
    """
    asked, bench = _opened(name, options, None)
    pace = Pace(bench.session.layout, options.device, options.dtype, threads_at_hand())
    parts = _passes(asked, bench)
    return asked, [Part(what=what, runs=runs, seconds=pace.seconds(passes)) for what, runs, passes in parts]


def stands_in(asked: Recipe, layout: Layout) -> str:
    """The model whose place this one takes, if it is of another shape."""
    shape = asked.shape
    return asked.model if shape and (shape.layers, shape.width) != (layout.layers, layout.width) else ""


def _opened(name: str, options: Options, bars: Bars | None) -> tuple[Recipe, Workbench]:
    """The recipe on the data that are given, and what measures; what can be wrong with the counts is said here."""
    asked = recipe(name).with_data(options.data, options.calibration, options.zeroshot)
    asked = asked if options.trial is None else asked.in_small(options.trial)
    session = api.session(options.model or asked.model, device=options.device, dtype=options.dtype)
    for section in (asked.removal, asked.speed, asked.recovery):
        if section:
            kind = section.kind if isinstance(section, Removal) else ATTENTION
            check_count(session.layout, max(section.counts), (), kind)
    store = ResultStore(None if options.state is None else options.state / "results")
    directory = store.directory.parent / "study"
    return asked, Workbench(asked, session, store, directory, options.batch_size, bars or no_bars)


def _passes(asked: Recipe, bench: Workbench) -> Iterator[tuple[str, int, Mapping[Work, float]]]:
    """Every measurement with its runs and the passes through the model that they make."""
    tokens, layout = asked.calibration, bench.session.layout

    def scoring(names: Sequence[str], samples: int | None = None) -> Counter[Work]:
        passes: Counter[Work] = Counter()
        for given in names:
            name, _, source = given.partition("@")
            if criterion := forward_criteria().get(name):
                own, times = tokens.of(given), criterion.passes(len(layout.attention_layers))
                passes.update(windows_read(source or own.source, samples or own.samples, own.length, times))
        return passes

    if asked.rankings:
        yardstick = (asked.rankings.yardstick,) if asked.rankings.yardstick else ()
        passes = scoring(asked.rankings.criteria)
        passes += scoring(yardstick, asked.rankings.yardstick_samples)
        yield "rankings", len(asked.rankings.criteria) + len(yardstick), passes
    if asked.removal:
        models = 1 + len(asked.removal.counts) * (len(asked.removal.criteria) + asked.removal.random_draws)
        passes = scoring(asked.removal.criteria)
        for evaluation in asked.removal.evaluations:
            for job in registry.prepare(evaluation.task, *bench.request(evaluation)):
                passes.update({work: models * count for work, count in job.passes.items()})
        yield "removal", models, passes
    if asked.speed:
        models = (1 + len(asked.speed.counts)) * (1 + asked.speed.rounds)
        passes = Counter({Work.prefill(length): models for length in asked.speed.lengths})
        passes.update({Work.decode(length): models * asked.speed.new_tokens for length in asked.speed.lengths})
        yield "speed", models, passes
    if asked.recovery:
        models = len(asked.recovery.counts) * len(asked.recovery.criteria)
        how = asked.recovery
        settings = Settings(steps=how.steps, objective=how.objective, batch=how.batch, length=how.length)
        passes = Counter({work: models * count for work, count in training_passes(settings, layout.context).items()})
        tasks, request = asked.recovery.tasks, TaskOptions(limit=asked.recovery.limit)
        for job in registry.prepare(tasks, bench.task_data(tasks), request) if tasks else ():
            passes.update({work: (1 + 2 * models) * count for work, count in job.passes.items()})
        yield "recovery", models, passes
