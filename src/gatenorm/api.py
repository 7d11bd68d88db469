"""The verbs of the command line as functions: ``score``, ``plan``, ``prune``, ``export``, ``evaluate`` and so on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.checkpoint import Checkpoint, cached, local_path, locate
from gatenorm.criteria import criterion as criterion_named
from gatenorm.criteria import score as score_layout
from gatenorm.demo.package import NAME as DEMO
from gatenorm.demo.package import model_directory, speaks_its_language
from gatenorm.errors import CheckpointError, CriterionError, EvaluationError, PlanError
from gatenorm.evaluation import registry, running
from gatenorm.evaluation.cache import Cache
from gatenorm.evaluation.job import Request
from gatenorm.evaluation.subject import Subject
from gatenorm.families import Layout, understand
from gatenorm.families import family as family_named
from gatenorm.records import Evidence, Plan, Scores, read_json
from gatenorm.runtimes import transformers as transformers_runtime
from gatenorm.surgery.disk import write_pruned
from gatenorm.surgery.planning import check_count, count_for_share, plan_by_hand, plan_by_scores, plan_from_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from gatenorm.calibration.comparison import Comparison
    from gatenorm.calibration.cross_check import CrossCheck
    from gatenorm.calibration.curve import Curve
    from gatenorm.calibration.laboratory import Laboratory
    from gatenorm.calibration.sources import Calibration
    from gatenorm.evaluation.perplexity import Protocol
    from gatenorm.runtimes.targets import Exported
    from gatenorm.runtimes.verify import Verdict

__all__ = [
    "compare",
    "cross_check",
    "curve",
    "evaluate",
    "export",
    "laboratory",
    "load",
    "open_model",
    "plan",
    "prune",
    "prune_module",
    "score",
    "verify",
]

Progress = Callable[[int, int], None]
Model = str | os.PathLike[str] | Layout
# Measured on the built-in model, and on what was pruned or trained from it, in place of tasks in English.
OWN_TASKS = {
    task.name: task
    for task in (
        registry.Task(DEMO, "stories and tasks of the built-in model's world", "gatenorm.demo.jobs"),
        registry.Task("refusal", "its own", "gatenorm.demo.jobs:refusal"),
        registry.Task("retrieval", "its own", "gatenorm.demo.jobs:recall"),
    )
}


def open_model(model: Model, family: str | None = None, *, fetch: bool = True) -> Layout:
    """What gatenorm understands of a checkpoint: its family, its shape, where its attention weights lie.

    Args:
        model: a directory, a model id of the hub, or ``demo`` for the built-in model.
        family: treat it as this family although its ``model_type`` says something else.
        fetch: download a model id whose weights are not in the hub's cache; otherwise they stay on the hub, and only
            the ranges that are read are fetched.

    Raises:
        CheckpointError: it cannot be read.
        FamilyError: its architecture is not known.
    """
    if isinstance(model, Layout):
        return model
    named = os.fspath(model)
    if named == DEMO:
        return understand(Checkpoint.open(model_directory()), family)
    if fetch or local_path(named) is not None:
        return understand(Checkpoint.open(locate(named)), family)
    return understand(_where_it_lies(named), family)


def _where_it_lies(model_id: str) -> Checkpoint:
    snapshot = cached(model_id)
    if snapshot is not None:
        with suppress(CheckpointError):  # a snapshot without its weights
            return Checkpoint.open(snapshot)
    return Checkpoint.open_remote(model_id)


def score(
    model: Model | Laboratory,
    criterion: str = "gate-norm",
    *,
    family: str | None = None,
    seed: int = 0,
    backend: str = "auto",
    device: str = "cpu",
    dtype: str = "auto",
    calibration: Calibration | str | None = None,
    layer_by_layer: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Score every attention sublayer, from the weights alone or by forward passes; the lowest are removed first.

    Args:
        criterion: a name out of ``gatenorm.criteria.CRITERIA``, or out of ``FORWARD_CRITERIA``, which need tokens:
            ``cosine`` with a ``calibration``, or ``cosine@self``.
        seed: of the criterion ``random``.
        backend: ``numpy``, ``torch`` or ``auto``; of weight-only criteria.
        device: where torch computes (``cpu``, ``cuda``; ``auto`` spreads a model that is run).
        dtype: that a model is run in: ``auto``, ``float32``, ``bfloat16``, ``float16``.
        calibration: the tokens to look at: a text file, ``self``, ``random``, or a ``Calibration`` with its numbers.
        layer_by_layer: hold one block's weights at a time, for models larger than memory.
        progress: called with (done, all there is to do).

    Raises:
        CheckpointError, FamilyError: as :func:`open_model`.
        CriterionError: an unknown criterion, one that this model does not allow, a calibration that it lacks or has no
            use for, or weights that are not finite.
        CalibrationError: tokens that cannot be had.
    """
    if criterion_named(criterion.partition("@")[0]).function is not None:
        if calibration is not None or "@" in criterion:
            raise CriterionError(f"{criterion.partition('@')[0]} looks at weights alone: leave the calibration out")
        layout = open_model(_model_of(model), family, fetch=False)
        where = "cpu" if device == "auto" else device  # one layer at a time: there is nothing to spread
        return score_layout(layout, criterion, seed=seed, backend=backend, device=where, progress=progress)
    from gatenorm.calibration.requests import requests, score_requests

    asked = requests([criterion], _calibration(calibration, seed))
    chosen = laboratory(model, family=family, device=device, dtype=dtype, layer_by_layer=layer_by_layer)
    return score_requests(chosen, asked, progress=progress)[0]


def laboratory(
    model: Model | Laboratory,
    *,
    family: str | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    layer_by_layer: bool = False,
    activations: str | os.PathLike[str] | None = None,
) -> Laboratory:
    """A model that is loaded when it is first run and kept, for whoever asks several things of it.

    Args:
        layer_by_layer: hold one block's weights at a time, for models larger than memory.
        activations: a folder that then keeps the samples' activations, which otherwise stay in memory.

    Raises:
        CheckpointError, FamilyError: as :func:`open_model`.
    """
    from gatenorm.calibration.laboratory import Laboratory

    if isinstance(model, Laboratory):
        return model
    spool = None if activations is None else Path(activations)
    return Laboratory(open_model(model, family), device, dtype, layer_by_layer, spool)


def cross_check(
    model: Model | Laboratory,
    scores: Scores,
    layers: int | None = None,
    *,
    protect: Sequence[int] = (),
    calibration: Calibration | None = None,
    progress: Progress | None = None,
) -> CrossCheck:
    """Hold a scoring of ``model`` against ``cosine`` on random tokens and on text that it samples from itself.

    Args:
        model: or a :func:`laboratory`, which says on which device.
        layers: the budget at which the choices are compared; a fifth of the layers by default.
        protect: layers that are not to be removed.
        calibration: how many samples of which length; 32 of 256 by default.

    Raises:
        CalibrationError, CheckpointError, MissingExtraError: the model cannot be run.
    """
    from gatenorm.calibration.cross_check import cross_check as check

    chosen = laboratory(model)
    count = layers if layers is not None else count_for_share(0.2, len(chosen.layout.attention_layers))
    return check(chosen, scores, count, protect=protect, calibration=calibration, progress=progress)


def compare(
    model: Model | Laboratory,
    criteria: Sequence[str],
    *,
    calibration: Calibration | str | None = None,
    bound: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Score by several criteria and say how far they agree.

    Args:
        criteria: names such as ``gate-norm``, ``cosine`` (on ``calibration``) or ``cosine@self``.
        bound: take both sides of the paper's inequality too, on ``calibration`` or, without one, on random tokens.

    Raises:
        CriterionError, CalibrationError, CheckpointError: as :func:`score`, for any of them, before any work.
    """
    from gatenorm.calibration.comparison import compare as compare_requests
    from gatenorm.calibration.requests import requests
    from gatenorm.calibration.sources import RANDOM, with_source

    how = _calibration(calibration, seed)
    asked = requests(criteria, how)
    on = with_source(how, how.source or RANDOM) if bound else None
    return compare_requests(laboratory(model), asked, bound_on=on, seed=seed, progress=progress)


def curve(
    model: Model | Laboratory,
    criteria: Sequence[str | Scores],
    data: str,
    *,
    counts: Sequence[int] | None = None,
    protocol: Protocol | None = None,
    calibration: Calibration | str | None = None,
    seeds: int = 5,
    measures: Mapping[str, Callable[[Any], float]] | None = None,
    state: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Perplexity on ``data`` by number of removed sublayers, for several rankings and the band of random ones.

    Args:
        criteria: names as in :func:`compare`, or scores made before.
        data: a text file, ``wikitext2``, or ``wikitext2=FILE``.
        counts: numbers of removed sublayers; up to half of them all by default.
        protocol: windows or documents, as in an evaluation.
        seeds: how many random rankings make the band.
        measures: what else to measure of every pruned model, by name: a function of the model that gives a number.
        state: a file that keeps what was measured, so that a run that was stopped goes on.

    Raises:
        EvaluationError, CriterionError, CalibrationError, CheckpointError: what is asked for cannot be measured.
    """
    from gatenorm.calibration.curve import curve as measure
    from gatenorm.calibration.requests import requests
    from gatenorm.evaluation.perplexity import Protocol
    from gatenorm.evaluation.text import read_text

    how = _calibration(calibration, 0)
    asked = [requests([given], how)[0] if isinstance(given, str) else given for given in criteria]
    text, chosen = read_text(data), laboratory(model)
    layers = len(chosen.layout.attention_layers)
    numbers = range(count_for_share(0.5, layers) + 1) if counts is None else counts
    where = None if state is None else Path(state)
    return measure(
        chosen,
        asked,
        text,
        protocol or Protocol(),
        numbers,
        seeds=seeds,
        measures=measures,
        state=where,
        progress=progress,
    )


def _model_of(given: Model | Laboratory) -> Model:
    """What a laboratory works on; its module is not imported for those who have none."""
    return given if isinstance(given, (str, os.PathLike, Layout)) else given.layout


def _calibration(given: Calibration | str | None, seed: int) -> Calibration:
    from gatenorm.calibration.sources import Calibration

    return given if isinstance(given, Calibration) else Calibration(given or "", seed=seed)


def plan(
    model: Model | Laboratory,
    *,
    layers: int | None = None,
    share: float | None = None,
    drop: Sequence[int] | None = None,
    file: str | os.PathLike[str] | None = None,
    criterion: str = "gate-norm",
    protect: Sequence[int] = (),
    family: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "auto",
    calibration: Calibration | str | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Decide which attention sublayers go: by number, by share, by hand, or as a plan file says (exactly one of them).

    Args:
        layers: how many of the weakest to remove, beyond those already gone.
        share: the same as a share of the attention sublayers that are there, rounded half up, at least one.
        drop: original 0-based indices.
        file: a ``plan.json``, made for this checkpoint.
        protect: original indices that must stay, however the others are chosen.
        criterion, seed, device, dtype, calibration: as in :func:`score`.

    Raises:
        PlanError: not exactly one way of choosing, or one that this model does not allow.
        CriterionError: as :func:`score`.
    """
    ways = {"layers": layers, "share": share, "drop": drop, "plan": file}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        raise PlanError(f"say once what to remove: by layers, share, drop or plan; given: {', '.join(given) or 'none'}")
    layout = open_model(_model_of(model), family)
    criterion_named(criterion.partition("@")[0])
    why = layout.refusal()
    if why:
        raise PlanError(f"this {layout.model_type} model cannot be pruned: {why}")
    if drop is not None:
        return plan_by_hand(layout, drop, protect)
    if file is not None:
        return plan_from_file(layout, Plan.from_json(read_json(Path(file), "plan")), protect)
    count = layers if layers is not None else count_for_share(share or 0.0, len(layout.attention_layers))
    check_count(layout, count, protect)  # before the scoring, which may take a while
    # A laboratory has loaded the model already.
    scorer = layout if isinstance(model, (str, os.PathLike, Layout)) else model
    scores = score(scorer, criterion, seed=seed, device=device, dtype=dtype, calibration=calibration, progress=progress)
    return plan_by_scores(layout, scores, count, protect)


def prune(model: Model, out: str | os.PathLike[str], plan: Plan, *, progress: Progress | None = None) -> Path:
    """Carry a plan out: write the pruned checkpoint as the new directory ``out``, whole or not at all.

    Args:
        progress: called with (bytes written, bytes in all).

    Raises:
        PlanError: the model must not be pruned.
        OutputError: ``out`` is not empty or cannot be written.
    """
    write_pruned(open_model(model), plan, Path(out), progress)
    return Path(out)


def load(model: str | os.PathLike[str], **arguments: Any) -> PreTrainedModel:
    """The causal language model ``model``, dense or pruned, as a transformers model in evaluation mode.

    Args:
        model: a directory, a model id of the hub, or ``demo`` for the built-in model.
        arguments: for ``from_pretrained``: ``dtype``, ``device_map``, ``attn_implementation``, ...

    Raises:
        CheckpointError: it cannot be read, or holds other tensors than the model needs.
        MissingExtraError: torch or transformers is not installed.
    """
    named = os.fspath(model)
    return transformers_runtime.load(model_directory() if named == DEMO else locate(named), **arguments)


def evaluate(
    model: Model | Subject,
    tasks: str | Sequence[str] | None = None,
    data: str | Sequence[str] = (),
    *,
    baseline: Model | Subject | None = None,
    request: Request | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    batch_size: int | None = None,
    cache: Cache | None = None,
    bars: running.Bars | None = None,
    finished: Callable[[running.Finished], None] | None = None,
) -> list[Evidence]:
    """What a model is worth, task by task, and what changed against a baseline.

    Args:
        model: a checkpoint, or ``Subject.of_module(model, tokenizer)`` for a model in memory.
        tasks: names out of ``gatenorm.evaluation.registry.TASKS``; without any, ``perplexity`` where there are data,
            and the built-in model's own tasks for models of its language.
        data: what the tasks read, as ``--data``: a file, a directory, ``wikitext2``, or ``TASK=PATH``.
        baseline: what to compare with, item by item.
        request: windows, limits and the like.
        batch_size: sequences at a time; as many as memory allows without one.
        cache: where finished results are kept and looked up, such as ``Cache()``; without one nothing is.
        bars: opens a progress bar for each measurement.
        finished: called with each record as soon as it is there.

    Raises:
        EvaluationError: an unknown task, data that are missing or do not serve, or logits that are not finite.
        CheckpointError, FamilyError, MissingExtraError: as loading.
    """
    # What can be wrong with either model is said before minutes are spent on the other.
    hardware: dict[str, Any] = {"device": device, "dtype": dtype, "batch_size": batch_size}
    named = [m for m in (baseline, model) if m is not None]
    subjects = [m if isinstance(m, Subject) else Subject.of_layout(open_model(m), **hardware) for m in named]
    own = [s.layout is not None and speaks_its_language(s.layout.checkpoint.directory) for s in subjects]
    data = [data] if isinstance(data, str) else list(data)
    known = dict(registry.TASKS)
    if all(own):
        # Whoever gives data to refusal or retrieval means those in English.
        known |= {DEMO: OWN_TASKS[DEMO]} if data else OWN_TASKS
    if tasks is None and not data and not all(own):
        name = subjects[own.index(False)].name
        raise EvaluationError(
            f"{name} needs --data: only {DEMO} and what was pruned from it have stories and tasks of their own"
        )
    contexts = [s.context for s in subjects if s.context]
    request = replace(request or Request(), context=min(contexts) if contexts else None)
    names = tasks or ("perplexity" if data else DEMO)
    jobs = registry.prepare(names, data, request, baseline=baseline is not None, known=known)
    compared = subjects[0] if baseline is not None else None
    found = running.run(jobs, subjects[-1], compared, cache=cache, bars=bars, finished=finished)
    return [record.evidence for record in found]


def prune_module(model: Any, drop: Sequence[int]) -> Any:
    """Remove the attention of layers ``drop`` from a live transformers model, in place; returns the model.

    The result is what loading the pruned checkpoint would give, and ``save_pretrained`` writes such a checkpoint.

    Raises:
        FamilyError: the model's architecture is not known.
        PlanError: a layer that is not there, or none would be left.
    """
    from gatenorm.surgery.live import remove_attention

    config = model.config.to_dict()
    pruned = config.get("gatenorm")
    data = family_named(pruned["base_model_type"] if pruned else config["model_type"], config)
    return remove_attention(model, drop, data)


def export(
    model: Model,
    to: str,
    out: str | os.PathLike[str],
    *,
    dtype: str = "auto",
    family: str | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write a model, pruned or dense, in a form that engines serve unpatched; ``out`` appears whole or not at all.

    Args:
        to: ``gguf`` (llama.cpp, Ollama) or ``nemotron-nas`` (vLLM, SGLang, TensorRT-LLM, ExLlamaV3, MLX-LM).
        dtype: of the weights, where the form has a choice; ``auto`` keeps what is stored.
        progress: called with (bytes written, bytes in all).

    Raises:
        OutputError: the model cannot be written so (the message says why), or ``out`` is taken.
        MissingExtraError: a package that writing needs is not installed.
    """
    from gatenorm.runtimes.targets import target

    return target(to).write(open_model(model, family), Path(out), dtype=dtype, progress=progress)


def verify(
    exported: str | os.PathLike[str],
    against: Model,
    engine: str | None = None,
    *,
    tokens: int = 64,
    tolerance: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Verdict:
    """Compare what an engine computes from an export with what transformers computes from its source.

    The arguments, the result and the errors are those of :func:`gatenorm.runtimes.verify.verify`.
    """
    from gatenorm.runtimes.verify import verify as verify_layout

    layout = open_model(against)
    return verify_layout(
        Path(exported), layout, engine, tokens=tokens, tolerance=tolerance, seed=seed, progress=progress
    )
