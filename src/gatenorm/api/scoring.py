"""What criteria say of a model, how far they agree, and what removing by them costs."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gatenorm.analysis import comparison, curve as curves
from gatenorm.analysis.latency import LatencyProbe
from gatenorm.api.evaluating import jobs_of_one
from gatenorm.api.opening import ModelLike, open_model, session
from gatenorm.calibration.samples import RANDOM, Calibration, with_source
from gatenorm.criteria import scoring
from gatenorm.criteria.criterion import WeightCriterion
from gatenorm.criteria.criterion_spec import criterion_specs, score_all
from gatenorm.criteria.registry import DEFAULT, check_ranks, criterion as criterion_named
from gatenorm.errors import CriterionError
from gatenorm.evaluation.tasks.perplexity import Protocol
from gatenorm.progress import Progress
from gatenorm.records import ATTENTION, Scores
from gatenorm.records.curve import Curve
from gatenorm.records.rankings import CrossCheck, RankingComparison
from gatenorm.surgery.planning import count_for_share


def score(
    model: ModelLike,
    criterion: str = DEFAULT,
    *,
    kind: str | None = None,
    family: str | None = None,
    seed: int = 0,
    backend: str = "auto",
    device: str = "cpu",
    dtype: str = "auto",
    calibration: Calibration | str | None = None,
    layer_by_layer: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Score every sublayer of a kind, from the weights alone or by forward passes; the lowest are removed first.

    Args:
        criterion: its name. Those that run the model need tokens: ``cosine`` with a ``calibration``, or
            ``cosine@self``.
        kind: ``attention``, ``mlp`` or ``block`` (both of a layer); by default what the criterion ranks: attention
            unless its name says otherwise.
        seed: of the criterion ``random``.
        backend: ``numpy``, ``torch`` or ``auto``; of weight-only criteria.
        device: where torch computes (``cpu``, ``cuda``; ``auto`` spreads a model that is run).
        dtype: data type used to run the model: ``auto``, ``float32``, ``bfloat16``, ``float16``.
        calibration: the tokens to run it on: a text file, ``self``, ``random``, or a ``Calibration`` with its numbers.
        layer_by_layer: hold one block's weights at a time, for models larger than memory.

    Raises:
        CheckpointError, FamilyError: as :func:`open_model`.
        CriterionError: an unknown criterion, one that this model does not allow or that does not rank that kind, a
            calibration that it lacks or has no use for, weights that are not finite, or no sublayer of that kind left.
        CalibrationError: tokens that cannot be had.
    """
    name = criterion.partition("@")[0]
    known = criterion_named(name)
    kind = kind or known.kinds[0]
    check_ranks(known, kind)
    if isinstance(known, WeightCriterion):
        if calibration is not None or "@" in criterion:
            raise CriterionError("calibration-unused", f"has no use: {name} reads weights alone", field="calibration")
        layout = open_model(model, family, fetch=False)
        where = "cpu" if device == "auto" else device  # one layer at a time: there is nothing to spread
        return scoring.score(layout, criterion, kind=kind, seed=seed, backend=backend, device=where, progress=progress)
    specs = criterion_specs([criterion], _calibration(calibration, seed))
    opened = session(model, family=family, device=device, dtype=dtype, layer_by_layer=layer_by_layer)
    scoring.to_score(opened.layout, kind)
    return score_all(opened, specs, kind=kind, progress=progress)[0]


def cross_check(
    model: ModelLike,
    scores: Scores,
    layers: int | None = None,
    *,
    protect: Sequence[int] = (),
    calibration: Calibration | None = None,
    progress: Progress | None = None,
) -> CrossCheck:
    """Compare a scoring of ``model`` with ``cosine`` on packaged text and on random tokens.

    A model without a tokenizer, or with a language of its own, reads text that it samples itself instead of the first.

    Args:
        model: or a :func:`session`, which says on which device.
        layers: the budget at which the choices are compared; a fifth of the layers by default.
        protect: layers to keep.
        calibration: how many samples of which length; 32 of 256 by default.

    Raises:
        CalibrationError, CheckpointError, MissingExtraError: the model cannot be run.
    """
    opened = session(model)
    attention = opened.layout.removable(ATTENTION)
    count = layers if layers is not None else count_for_share(comparison.PRACTICAL, len(attention))
    return comparison.cross_check(opened, scores, count, protect=protect, calibration=calibration, progress=progress)


def compare(
    model: ModelLike,
    criteria: Sequence[str],
    *,
    calibration: Calibration | str | None = None,
    bound: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> RankingComparison:
    """Score by several criteria and say how far they agree.

    Args:
        criteria: names such as ``gate-norm``, ``cosine`` (on ``calibration``) or ``cosine@self``.
        bound: take both sides of the paper's inequality too, on ``calibration`` or, without one, on random tokens.

    Raises:
        CriterionError, CalibrationError, CheckpointError: as :func:`score`, for any of them, before any work.
    """
    tokens = _calibration(calibration, seed)
    specs = criterion_specs(criteria, tokens)
    bound_on = with_source(tokens, tokens.source or RANDOM) if bound else None
    return comparison.compare(session(model), specs, bound_on=bound_on, seed=seed, progress=progress)


def curve(
    model: ModelLike,
    criteria: Sequence[str | Scores],
    data: str,
    *,
    counts: Sequence[int] | None = None,
    protocol: Protocol | None = None,
    calibration: Calibration | str | None = None,
    seed: int = 0,
    seeds: int = 5,
    measures: Mapping[str, Callable[[Any], float]] | None = None,
    tasks: str | Sequence[str] = (),
    task_data: str | Sequence[str] = (),
    task_limit: int | None = None,
    latency: LatencyProbe | int | None = None,
    state: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Perplexity on ``data`` by number of removed sublayers, for several rankings and the band of random ones.

    On request also accuracy on tasks and speed beside the whole model, along the rankings.

    Args:
        criteria: names as in :func:`compare`, or scores made before.
        data: a text file, ``generic`` (packaged text), ``wikitext2``, or ``wikitext2=FILE``.
        counts: numbers of removed sublayers; up to half of them all by default.
        protocol: windows or documents, as in an evaluation.
        seed: of the criterion ``random``, and of tokens that are drawn where ``calibration`` does not say.
        seeds: how many random rankings make the band.
        measures: what else to measure of every pruned model, by name: a function of the model, run without a key/value
            cache, that gives a number.
        tasks: names as in :func:`evaluate`; those of ``demo`` for the built-in model.
        task_data: what they read.
        task_limit: items of each task.
        latency: tokens to read and decode behind, or a ``LatencyProbe`` with all its numbers.
        state: a directory that keeps what was measured, so that a stopped run can continue.

    Raises:
        EvaluationError, CriterionError, CalibrationError, CheckpointError: what is asked for cannot be measured.
    """
    tokens = _calibration(calibration, seed)
    rankings = [criterion_specs([given], tokens)[0] if isinstance(given, str) else given for given in criteria]
    text, opened = curves.evaluation_text(data), session(model)
    layers = len(opened.layout.removable(ATTENTION))
    numbers = range(count_for_share(0.5, layers) + 1) if counts is None else counts
    return curves.curve(
        opened,
        rankings,
        text,
        protocol or Protocol(),
        numbers,
        seed=seed,
        seeds=seeds,
        measures=measures,
        tasks=jobs_of_one(opened.layout, tasks, task_data, limit=task_limit) if tasks else (),
        latency=LatencyProbe(latency) if isinstance(latency, int) else latency,
        state=None if state is None else Path(state),
        progress=progress,
    )


def _calibration(given: Calibration | str | None, seed: int) -> Calibration:
    return given if isinstance(given, Calibration) else Calibration(given or "", seed=seed)
