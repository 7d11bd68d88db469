"""Fitting the operations of new edits, and holding every one against plain removal before it is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from msgspec import structs

from gatenorm.calibration.passes import Observer, observe
from gatenorm.calibration.samples import Samples
from gatenorm.calibration.shared_prefix import SharedPrefix, divergence
from gatenorm.errors import CalibrationError, PlanError
from gatenorm.fitting.moments import MomentObserver, Moments, inputs
from gatenorm.fitting.solve import Problem
from gatenorm.models.model import Model
from gatenorm.progress import Progress, part_of
from gatenorm.records import REMOVE, Edit, Edits, Plan
from gatenorm.records.fit import Divergence, FitOutcome, FitRecord, FitSource
from gatenorm.surgery.folding import check_folds, has_bias
from gatenorm.surgery.operation import Weights, fingerprint, operation_named

# One sequence in so many is held out.
_HELD_OUT = 8
# Tokens of each source on which a fit is held against removal: two passes an edit, so they are few.
_JUDGED = 1024
# Logits of so many sequences at a time are kept for comparison.
_ROWS = 2
# What a fitted update is multiplied by while it does more damage than removal; then removal takes its place.
_SCALES = (1.0, 0.5, 0.25)


@dataclass(frozen=True)
class FittedPlan:
    """A plan, and the tensors of its fitted operations. Edits whose fit did more damage than removal are removals."""

    plan: Plan
    weights: Mapping[Edit, Weights]


# Runs samples through the unedited model for an observer; progress is in units of its own.
Pass = Callable[[Samples, Observer, Progress | None], None]


def fit(
    model: Model,
    plan: Plan,
    sources: Mapping[str, Samples],
    progress: Progress | None = None,
    layer_by_layer: Pass | None = None,
) -> FittedPlan:
    """Fit the operations that ``plan`` adds to what the sublayers do in the unedited model.

    One pass over the tokens sums the moments of all sublayers at once; one sequence in eight is held out. The ridge is
    chosen on held-out tokens, and every edit, alone and all together, must change predictions less than removal does
    on the held-out tokens of every source. Where there are several sources, each is judged with maps that were fitted
    on the others only. What fails is shrunk, and removed plainly where that does not help. The tensors that are kept
    are fitted on all sources.

    Args:
        sources: tokens by the name of their source.
        progress: called with (work done, work in all), in units of a token's pass.
        layer_by_layer: the pass to make, for a model that does not fit into memory as a whole. Predictions are not
            compared then: an edit is kept where it explains some of the sublayer's updates on held-out tokens.

    Raises:
        CalibrationError: fewer tokens than a map has unknowns, or activations that are not finite.
        PlanError: an operation that cannot be fitted.
    """
    began = time.perf_counter()
    edits = Edits(structs.replace(edit, artifact=None) for edit in plan.added)
    fitted = Edits(edit for edit in edits if edit.operation != REMOVE)
    _check(model, fitted, sources)
    parts = {name: _split(samples) for name, samples in sources.items()}
    work = sum(samples.tokens for samples in sources.values())
    report = progress and (lambda done, _: progress(done, 2 * work))
    problems = _problems(model, fitted, list(parts.values()), report, layer_by_layer)
    trial = _Trial(model, edits, fitted, {name: _judged(held) for name, (_, held) in parts.items()})
    if layer_by_layer is None:
        trial.run(problems)
    else:
        trial.kept = [edit for edit in fitted if problems[edit].unexplained(_is_map(edit)) < 1]
    if progress:
        progress(2 * work, 2 * work)

    weights = {}
    for edit in trial.kept:
        tensors = _weights(edit, problems[edit].scaled(trial.scales[edit]))
        weights[structs.replace(edit, artifact=fingerprint(tensors))] = tensors
    removed = [_removal(edit) for edit in edits if edit not in trial.kept]
    record = FitRecord(
        sources=tuple(
            FitSource(
                name=name,
                tokens=train.tokens,
                held_out=held.tokens,
                protocol=dict(train.protocol),
                self_text=train.self_text,
            )
            for name, (train, held) in parts.items()
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
    model: Model, edits: Edits, samples: Samples, progress: Progress | None = None
) -> Callable[[Sequence[Edits], Progress | None], list[float]]:
    """Fits what these edits put in the place of sublayers in one pass over seven of eight sequences, and gives the
    function that says what any set of them does to predictions: the mean ``KL(unedited || edited)`` on held-out
    sequences, in nats.

    Args:
        progress: called with (tokens done, tokens in all).

    Raises:
        CalibrationError, PlanError: as :func:`fit`.
    """
    fitted = Edits(edit for edit in edits if edit.operation != REMOVE)
    _check(model, fitted, {str(samples.protocol.get("source", "the tokens")): samples}, "calibration")
    parts = _split(samples)
    problems = _problems(model, fitted, [parts], progress) if fitted else {}
    weights = {edit: _weights(edit, problems[edit]) for edit in fitted}
    return SharedPrefix(model, _judged(parts[1]), weights=weights, figure=divergence)


def _removal(edit: Edit) -> Edit:
    return structs.replace(edit, operation=REMOVE)


def _is_map(edit: Edit) -> bool:
    """Whether what is fitted is a map of inputs, and no constant."""
    operation = operation_named(edit.operation)
    return operation.normed or operation.folded


def _check(model: Model, fitted: Edits, sources: Mapping[str, Samples], field: str = "fit") -> None:
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
            raise CalibrationError(
                "fit-tokens-too-few",
                f"gives {train.tokens:,} tokens to fit on, and a map has {unknowns:,} unknowns an output",
                field=field,
                given=name,
                expected=f"{unknowns * 8 // 7 + 1:,} tokens or more, better ten times as many",
            )


def _split(samples: Samples) -> tuple[Samples, Samples]:
    """What is fitted on, and what is held out."""
    held = samples.sequences[::_HELD_OUT]
    train = tuple(s for at, s in enumerate(samples.sequences) if at % _HELD_OUT)
    return replace(samples, sequences=train), replace(samples, sequences=held)


def _judged(held: Samples) -> Samples:
    """The first held-out sequences."""
    kept, tokens = [], 0
    for sequence in held.sequences:
        kept.append(sequence)
        tokens += len(sequence)
        if tokens >= _JUDGED:
            break
    return replace(held, sequences=tuple(kept), batch_size=_ROWS)


def _problems(
    model: Model,
    fitted: Edits,
    parts: Sequence[tuple[Samples, Samples]],
    progress: Progress | None,
    layer_by_layer: Pass | None = None,
) -> dict[Edit, Problem]:
    moments: list[list[Mapping[Edit, Moments]]] = []
    total, done = sum(part.tokens for pair in parts for part in pair), 0
    for pair in parts:
        sums = []
        for part in pair:
            observer = MomentObserver(model.known_layout, fitted)
            if layer_by_layer is None:
                observe(model.module, model.known_layout, part, observer, part_of(progress, done, total))
            else:
                layer_by_layer(part, observer, None)
                if progress:
                    progress(done + part.tokens, total)
            done += part.tokens
            sums.append(observer.moments())
        moments.append(sums)
    return {
        edit: Problem(
            [train[edit] for train, _ in moments],
            [held[edit] for _, held in moments],
            intercept=operation_named(edit.operation).folded and has_bias(model.known_layout, edit.layer),
        )
        for edit in fitted
    }


def _weights(edit: Edit, problem: Problem) -> Weights:
    operation = operation_named(edit.operation)
    assert operation.fit is not None  # checked
    return {name: np.asarray(values, np.float32) for name, values in operation.fit(problem).items()}


class _Trial:
    """Which edits do less damage than removal, alone and together.

    Attributes:
        kept: those that do.
        scales: what each fitted update is multiplied by.
        alone, together: the divergences that were measured last.
    """

    def __init__(self, model: Model, edits: Edits, fitted: Edits, held_out: Mapping[str, Samples]):
        self._model, self._held_out = model, held_out
        self._plain = edits - fitted
        self.kept: list[Edit] = list(fitted)
        self.scales = dict.fromkeys(fitted, 1.0)
        self.alone: dict[Edit, tuple[Divergence, ...]] = {}
        self.together: tuple[Divergence, ...] = ()

    def run(self, problems: Mapping[Edit, Problem]) -> None:
        open_edits = list(self.kept)
        for scale in _SCALES:
            self.scales |= dict.fromkeys(open_edits, scale)
            self._measure(problems, open_edits)
            open_edits = [edit for edit in open_edits if not all(one.better for one in self.alone[edit])]
            if not open_edits:
                break
        self.kept = [edit for edit in self.kept if edit not in open_edits]
        if open_edits and self.kept:
            self._measure(problems, [])
        if not all(one.better for one in self.together):
            self.kept = []

    def _measure(self, problems: Mapping[Edit, Problem], one_by_one: Sequence[Edit]) -> None:
        """The divergences of these edits alone, and of all that are kept, source by source."""
        alone: dict[Edit, list[Divergence]] = {edit: [] for edit in one_by_one}
        together = []
        removal = Edits(_removal(edit) for edit in (*self.scales, *self._plain))
        mixed = Edits((*self.kept, *(_removal(e) for e in self.scales if e not in self.kept)))
        for at, (source, samples) in enumerate(self._held_out.items()):
            weights = {edit: _weights(edit, problems[edit].without(at).scaled(self.scales[edit])) for edit in self.kept}
            figures = SharedPrefix(self._model, samples, weights=weights, figure=divergence)
            singles = [Edits([one]) for edit in one_by_one for one in (_removal(edit), edit)]
            *found, all_removed, all_replaced = figures([*singles, removal, mixed | self._plain])
            for edit, removed, replaced in zip(one_by_one, found[::2], found[1::2], strict=True):
                alone[edit].append(Divergence(source=source, removed=removed, replaced=replaced))
            together.append(Divergence(source=source, removed=all_removed, replaced=all_replaced))
        self.alone |= {edit: tuple(found) for edit, found in alone.items()}
        self.together = tuple(together)
