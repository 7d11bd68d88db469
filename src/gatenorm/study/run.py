"""A recipe carried out: its measurements one after the other, its claims judged; or what that would take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatenorm import api
from gatenorm.audit.plan.config import Run
from gatenorm.audit.plan.pace import Pace
from gatenorm.calibration.samples import SELF
from gatenorm.criteria.registry import forward_criteria
from gatenorm.engines import threads_at_hand
from gatenorm.errors import StudyError
from gatenorm.evaluation.core import registry
from gatenorm.families import Layout
from gatenorm.models.architecture import Work
from gatenorm.results import ResultStore, versions
from gatenorm.study import measurements
from gatenorm.study.claims import check_claims, judged
from gatenorm.study.measurements import Results
from gatenorm.study.recipe import Recipe, recipe
from gatenorm.study.record import Part, Reproduction
from gatenorm.study.workbench import Bars, Workbench


@dataclass(frozen=True)
class Options:
    """What a run may replace of a recipe, where it computes, and where it keeps what it measures.

    ``model``, ``text``, ``calibration`` and ``zeroshot`` stand in for the recipe's own. ``state`` keeps results and
    checkpoints; the common store of results and its folder without one.
    """

    model: str | None = None
    text: str | None = None
    calibration: str | None = None
    zeroshot: str | None = None
    state: Path | None = None
    device: str = "cpu"
    dtype: str = "auto"
    batch_size: int | None = None


def reproduce(name: str, options: Options = Options(), bars: Bars | None = None) -> Reproduction:
    """Carry a recipe out; what was measured before is not measured again.

    Raises:
        StudyError, RecordError: no such recipe, or one that cannot be carried out on this model.
        Others: as the functions of the API that measure.
    """
    asked, bench = _opened(name, options, bars)
    layout, found = bench.session.layout, Results()
    if asked.rankings:
        measurements.rankings(asked.rankings, bench, found)
    if asked.removal:
        measurements.removal(asked.removal, bench, found)
    if asked.speed:
        measurements.speed(asked.speed, bench, found)
    if asked.recovery:
        measurements.recovery(asked.recovery, bench, found)
    stand_in = stands_in(asked, layout)
    return Reproduction(
        name=name,
        title=asked.title,
        source=asked.source,
        model=layout.identity(),
        figures=found.figures,
        claims=tuple(judged(claim, found.figures, found.items, bool(stand_in)) for claim in asked.claims),
        parts=tuple(found.parts),
        scores=found.scores,
        lines=tuple(found.lines),
        band=tuple(found.band),
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
    layout = bench.session.layout
    pace = Pace(layout, Run(device=options.device, dtype=_dtype(options.dtype)), threads_at_hand())
    return asked, list(_parts(asked, bench, layout, pace.seconds))


def stands_in(asked: Recipe, layout: Layout) -> str:
    """The model whose place this one takes, if it is of another shape."""
    shape = asked.shape
    return asked.model if shape and (shape.layers, shape.width) != (layout.layers, layout.width) else ""


def _opened(name: str, options: Options, bars: Bars | None) -> tuple[Recipe, Workbench]:
    """The recipe on the data that are given, and what measures; what can be wrong with the counts is said here."""
    asked = recipe(name).with_data(options.text, options.calibration, options.zeroshot)
    check_claims(asked)
    session = api.session(options.model or asked.model, device=options.device, dtype=options.dtype)
    present = len(session.layout.attention_layers)
    for section in ("removal", "speed", "recovery"):
        counts = getattr(getattr(asked, section), "counts", ())
        if any(count >= present for count in counts):
            expected = f"1 to {present - 1}: the model has {present} attention sublayers, and one must stay"
            field = f"{section}.counts"
            raise StudyError("count-out-of-range", "is out of range", field=field, given=max(counts), expected=expected)
    store = ResultStore(None if options.state is None else options.state / "results")
    directory = store.directory.parent / "study"
    nothing: Bars = lambda what, unit: nullcontext(lambda done, total: None)  # noqa: E731
    return asked, Workbench(asked, session, store, directory, options.batch_size, bars or nothing)


def _parts(
    asked: Recipe, bench: Workbench, layout: Layout, seconds: Callable[[Mapping[Work, float]], float]
) -> list[Part]:
    present, parts = len(layout.attention_layers), []

    def scoring(names: tuple[str, ...], samples: int) -> float:
        total = 0.0
        for name in names:
            criterion = forward_criteria().get(name.partition("@")[0])
            if criterion is not None:
                length = asked.calibration.length
                passes = {Work.prefill(length): samples * criterion.passes(present)}
                if name.endswith(f"@{SELF}"):
                    passes[Work.decode(length // 2, samples)] = float(length)
                total += seconds(passes)
        return total

    if asked.rankings:
        one, samples = asked.rankings, asked.calibration.samples
        took = scoring(one.criteria, samples)
        took += scoring((one.yardstick,), one.yardstick_samples or samples) if one.yardstick else 0.0
        parts.append(Part(what="rankings", runs=len(one.criteria) + bool(one.yardstick), seconds=took))
    if asked.removal:
        gone = asked.removal
        models = 1 + len(gone.counts) * (len(gone.criteria) + gone.random_draws)
        passes: Counter[Work] = Counter()
        for evaluation in gone.evaluations:
            data, request = bench.request(evaluation)
            for job in registry.prepare(evaluation.task, data, request):
                passes.update(job.passes)
        took = scoring(gone.criteria, asked.calibration.samples) + models * seconds(passes)
        parts.append(Part(what="removal", runs=models, seconds=took))
    if asked.speed:
        timed = asked.speed
        passes = Counter()
        for length in timed.lengths:
            passes.update({Work.prefill(length): 1.0, Work.decode(length): float(timed.new_tokens)})
        took = (1 + len(timed.counts)) * (1 + timed.rounds) * seconds(passes)
        parts.append(Part(what="speed", runs=1 + len(timed.counts), seconds=took))
    if asked.recovery:
        trained = asked.recovery
        steps = {Work.prefill(min(512, layout.context or 512), 8): 3.0 * trained.steps}
        models = len(trained.counts) * len(trained.criteria)
        parts.append(Part(what="recovery", runs=models, seconds=models * seconds(steps)))
    return parts


def _dtype(given: str) -> Any:
    return given if given in ("auto", "float32", "bfloat16", "float16") else "auto"
