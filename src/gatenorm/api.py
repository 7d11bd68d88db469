"""The verbs of the command line as functions: ``score``, ``plan``, ``prune``, ``load``, ``evaluate``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.checkpoint import Checkpoint, cached, local_path, locate
from gatenorm.criteria import criterion as criterion_named
from gatenorm.criteria import score as score_layout
from gatenorm.demo.package import NAME as DEMO
from gatenorm.demo.package import model_directory, speaks_its_language
from gatenorm.errors import CheckpointError, EvaluationError, PlanError
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

__all__ = ["evaluate", "load", "open_model", "plan", "prune", "prune_module", "score"]

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
    model: Model,
    criterion: str = "gate-norm",
    *,
    family: str | None = None,
    seed: int = 0,
    backend: str = "auto",
    device: str = "cpu",
    progress: Progress | None = None,
) -> Scores:
    """Score every attention sublayer from the weights alone; the lowest scores are removed first.

    Args:
        criterion: a name out of ``gatenorm.criteria.CRITERIA``.
        seed: of the criterion ``random``.
        backend: ``numpy``, ``torch`` or ``auto``.
        device: where torch computes (``cpu``, ``cuda``).
        progress: called with (layers done, layers).

    Raises:
        CheckpointError, FamilyError: as :func:`open_model`.
        CriterionError: an unknown criterion, one that this model does not allow, or weights that are not finite.
    """
    layout = open_model(model, family, fetch=False)
    return score_layout(layout, criterion, seed=seed, backend=backend, device=device, progress=progress)


def plan(
    model: Model,
    *,
    layers: int | None = None,
    share: float | None = None,
    drop: Sequence[int] | None = None,
    file: str | os.PathLike[str] | None = None,
    criterion: str = "gate-norm",
    protect: Sequence[int] = (),
    family: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Plan:
    """Decide which attention sublayers go: by number, by share, by hand, or as a plan file says (exactly one of them).

    Args:
        layers: how many of the weakest to remove, beyond those already gone.
        share: the same as a share of the attention sublayers that are there, rounded half up, at least one.
        drop: original 0-based indices.
        file: a ``plan.json``, made for this checkpoint.
        protect: original indices that must stay, however the others are chosen.

    Raises:
        PlanError: not exactly one way of choosing, or one that this model does not allow.
        CriterionError: as :func:`score`.
    """
    ways = {"layers": layers, "share": share, "drop": drop, "plan": file}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        raise PlanError(f"say once what to remove: by layers, share, drop or plan; given: {', '.join(given) or 'none'}")
    layout = open_model(model, family)
    criterion_named(criterion)
    why = layout.refusal()
    if why:
        raise PlanError(f"this {layout.model_type} model cannot be pruned: {why}")
    if drop is not None:
        return plan_by_hand(layout, drop, protect)
    if file is not None:
        return plan_from_file(layout, Plan.from_json(read_json(Path(file), "plan")), protect)
    count = layers if layers is not None else count_for_share(share or 0.0, len(layout.attention_layers))
    check_count(layout, count, protect)  # before the scoring, which may take a while
    scores = score(layout, criterion, seed=seed, progress=progress)
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
