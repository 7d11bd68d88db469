"""Fitting the operations of new edits, and holding every one against plain removal before it is kept."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from msgspec import structs

from gatenorm.calibration.passes import Observer, observe
from gatenorm.calibration.samples import CalibrationSamples, Samples
from gatenorm.calibration.shared_prefix import SharedPrefix, divergence
from gatenorm.errors import CalibrationError, PlanError
from gatenorm.fitting.moments import MomentObserver, inputs, read_from
from gatenorm.fitting.solve import Problem
from gatenorm.fitting.trial import Kept, Trial, judged, removal, weights_of
from gatenorm.models.model import Model
from gatenorm.progress import Progress, part_of
from gatenorm.records import REMOVE, Edit, Edits, Plan
from gatenorm.records.fit import FitOutcome, FitRecord, FitSource
from gatenorm.surgery.folding import check_folds, has_bias
from gatenorm.surgery.operation import Weights, fingerprint, operation_named

# One sequence in so many is held out.
HELD_OUT = 8


@dataclass(frozen=True)
class FittedPlan:
    """A plan, and the tensors of its fitted operations. Edits whose fit did more damage than removal are removals."""

    plan: Plan
    weights: Mapping[Edit, Weights] = field(default_factory=dict)


# Runs samples through the unedited model for an observer; progress is in units of its own.
Pass = Callable[[Samples, Observer, Progress | None], None]


def fit(
    model: Model,
    plan: Plan,
    sources: Mapping[str, CalibrationSamples],
    judges: Mapping[str, CalibrationSamples] | None = None,
    progress: Progress | None = None,
    layer_by_layer: Pass | None = None,
    measured: Kept | None = None,
) -> FittedPlan:
    """Fit the operations that ``plan`` adds to what the sublayers do in the unedited model.

    One pass over the tokens sums the moments of all sublayers at once; one sequence in eight is held out. The ridge is
    chosen on held-out tokens, and every edit, alone and all together, must change predictions less than removal does:
    on the held-out tokens of every source, and on those of every judge, which nothing is fitted on. Where there are
    several sources, each is judged with maps that were fitted on the others only. What fails is shrunk, and removed
    plainly where that does not help. The tensors that are kept are fitted on all sources.

    Args:
        sources: tokens to fit on by the name of their source.
        judges: tokens to judge on alone; of what is a source already none.
        progress: called with (work done, work in all), in units of a token's pass.
        layer_by_layer: the pass to make, for a model that does not fit into memory as a whole. Predictions are not
            compared then: an edit is kept where it explains some of the sublayer's updates on held-out tokens.
        measured: by earlier fits of the same model; what this one measures is added.

    Raises:
        CalibrationError: fewer tokens than a map has unknowns, or activations that are not finite.
        PlanError: an operation that cannot be fitted.
    """
    began = time.perf_counter()
    measured = Kept() if measured is None else measured
    edits = Edits(structs.replace(edit, artifact=None) for edit in plan.added)
    fitted = Edits(edit for edit in edits if edit.operation != REMOVE)
    _check(model, fitted, sources)
    parts = {name: _split(samples) for name, samples in sources.items()}
    work = sum(samples.tokens for samples in sources.values())
    report = progress and (lambda done, _: progress(done, 2 * work))
    problems = _problems(model, fitted, list(parts.values()), report, layer_by_layer, measured)
    held_out = {name: held for name, (_, held) in parts.items()}
    others = {} if layer_by_layer else {n: samples for n, samples in (judges or {}).items() if n not in sources}
    trial = Trial(model, edits, fitted, held_out, others, measured)
    if layer_by_layer is None:
        trial.run(problems)
    else:
        trial.kept = [edit for edit in fitted if problems[edit].unexplained(_is_map(edit)) < 1]
    if progress:
        progress(2 * work, 2 * work)

    weights = {}
    for edit in trial.kept:
        tensors = weights_of(edit, problems[edit].scaled(trial.scales[edit]))
        weights[structs.replace(edit, artifact=fingerprint(tensors))] = tensors
    removed = [removal(edit) for edit in edits if edit not in trial.kept]
    record = FitRecord(
        sources=(
            *(_source(name, train.tokens, held) for name, (train, held) in parts.items()),
            *(_source(name, 0, samples) for name, samples in others.items()),
        ),
        edits=tuple(
            FitOutcome(
                layer=edit.layer,
                sublayer=edit.sublayer,
                operation=edit.operation,
                kept=edit in trial.kept,
                ridge=problems[edit].chosen[0] if _is_map(edit) else None,
                scale=trial.scales[edit] if edit in trial.kept else 0.0,
                unexplained=problems[edit].unexplained(_is_map(edit)),
                divergences=trial.alone.get(edit, ()),
            )
            for edit in fitted
        ),
        divergences=trial.together,
        seconds=time.perf_counter() - began,
    )
    changed = (plan.edits - plan.added) | Edits([*weights, *removed])
    return FittedPlan(structs.replace(plan, edits=changed, fit=record), weights)


def fitted_divergence(
    model: Model, edits: Edits, samples: CalibrationSamples, progress: Progress | None = None
) -> Callable[[Sequence[Edits], Progress | None], list[float]]:
    """Fits what these edits put in the place of sublayers in one pass over seven of eight sequences, and gives the
    function that says what any set of them does to predictions: the mean ``KL(unedited || edited)`` on held-out
    sequences, in nats.

    Args:
        progress: called with (tokens done, tokens in all).
    """
    fitted = Edits(edit for edit in edits if edit.operation != REMOVE)
    _check(model, fitted, {samples.protocol.source: samples}, "calibration")
    parts = _split(samples)
    problems = _problems(model, fitted, [parts], progress) if fitted else {}
    weights = {edit: weights_of(edit, problems[edit]) for edit in fitted}
    return SharedPrefix(model, judged(parts[1]), weights=weights, figure=divergence)


def _source(name: str, tokens: int, held_out: CalibrationSamples) -> FitSource:
    return FitSource(name=name, tokens=tokens, held_out=held_out.tokens, protocol=held_out.protocol)


def _is_map(edit: Edit) -> bool:
    """Whether what is fitted is a map of inputs, and no constant."""
    operation = operation_named(edit.operation)
    return operation.normed or operation.folded


def _check(model: Model, fitted: Edits, sources: Mapping[str, CalibrationSamples], field: str = "fit") -> None:
    if not sources:
        raise CalibrationError("fit-source-missing", "names no source", field="fit", expected="such as generic")
    layout = model.known_layout
    check_folds(layout.data, layout.edits, fitted)
    unknowns = max((inputs(layout, edit) for edit in fitted), default=0)
    for edit in fitted:
        if operation_named(edit.operation).fit is None:
            raise PlanError("operation-not-fitted", "cannot be fitted", field="replace", given=edit.operation)
        operation_named(edit.operation).shapes(layout.width)
    for name, samples in sources.items():
        train, held = _split(samples)
        if held.predicted < 1 or train.tokens < unknowns:
            problem = f"gives {train.tokens:,} tokens to fit on, and a map has {unknowns:,} unknowns an output"
            expected = f"{unknowns * 8 // 7 + 1:,} tokens or more, better ten times as many"
            raise CalibrationError("fit-tokens-too-few", problem, field=field, given=name, expected=expected)


def _split(samples: CalibrationSamples) -> tuple[CalibrationSamples, CalibrationSamples]:
    """What is fitted on, and what is held out."""
    held = samples.sequences[::HELD_OUT]
    train = tuple(s for at, s in enumerate(samples.sequences) if at % HELD_OUT)
    return replace(samples, sequences=train), replace(samples, sequences=held)


def _problems(
    model: Model,
    fitted: Edits,
    parts: Sequence[tuple[Samples, Samples]],
    progress: Progress | None,
    layer_by_layer: Pass | None = None,
    measured: Kept | None = None,
) -> dict[Edit, Problem]:
    """The least squares of every edit: moments of what is fitted on and of what is held out, summed where missing."""
    known = Kept().moments if measured is None else measured.moments
    total, done = sum(part.tokens for pair in parts for part in pair), 0
    for part in (part for pair in parts for part in pair):
        missing = Edits(edit for edit in fitted if (part.sequences, read_from(edit)) not in known)
        observer = MomentObserver(model.known_layout, missing)
        if missing and layer_by_layer is None:
            observe(model.module, model.known_layout, part, observer, part_of(progress, done, total))
        elif missing and layer_by_layer is not None:
            layer_by_layer(part, observer, None)
        done += part.tokens
        if progress:
            progress(done, total)
        known |= {(part.sequences, read_from(edit)): found for edit, found in observer.moments().items()}
    return {
        edit: Problem(
            [known[train.sequences, read_from(edit)] for train, _ in parts],
            [known[held.sequences, read_from(edit)] for _, held in parts],
            intercept=operation_named(edit.operation).folded and has_bias(model.known_layout, edit.layer),
        )
        for edit in fitted
    }
