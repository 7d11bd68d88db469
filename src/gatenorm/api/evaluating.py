"""How well a model does, and what changed against another."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from gatenorm.api.opening import ModelLike, open_model
from gatenorm.engines import engine_for, engine_named
from gatenorm.errors import EvaluationError, fields_named
from gatenorm.evaluation.core import registry, runner
from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.families import Layout
from gatenorm.models.model import TRANSFORMERS, Model
from gatenorm.models.named import language_of
from gatenorm.progress import Bars
from gatenorm.records import Evidence, Results
from gatenorm.results import ResultStore


def evaluate(
    model: ModelLike | Model,
    tasks: str | Sequence[str] | None = None,
    data: str | Sequence[str] = (),
    *,
    baseline: ModelLike | Model | None = None,
    request: TaskOptions | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    batch_size: int | None = None,
    engine: str | None = None,
    cache: ResultStore | None = None,
    bars: Bars | None = None,
    finished: Callable[[runner.Finished], None] | None = None,
) -> Results[Evidence]:
    """Measure a model task by task, and what changed against a baseline.

    Args:
        model: a checkpoint, or ``Model.of_module(model, tokenizer)`` for a model in memory.
        tasks: names as in :func:`gatenorm.evaluation.core.registry.known_tasks`; without any, ``perplexity`` where
            there are data, and the built-in model's own tasks for models of its language.
        data: what the tasks read: a file, a directory, ``wikitext2``, or ``TASK=PATH``.
        baseline: what to compare with, item by item.
        request: windows, limits and the like.
        batch_size: sequences at a time; as many as memory allows without one.
        engine: what runs the models: ``transformers`` without one, or llama.cpp where they are GGUF files, which takes
            perplexity alone; ``vllm`` takes the tasks of lm-eval, and chooses its device itself.
        cache: where finished results are kept and looked up, such as ``ResultStore()``; without one nothing is.
        bars: opens a progress bar for each measurement.
        finished: called with each record as soon as it is there, and whether it came out of the cache.

    Raises:
        EvaluationError: an unknown task, unsuitable or missing data, or logits that are not finite.
        CheckpointError, FamilyError, MissingExtraError: as loading.
    """
    given = [m for m in (baseline, model) if m is not None]
    elsewhere = next((m for m in given if isinstance(m, Model) and m.engine != (engine or TRANSFORMERS)), None)
    if elsewhere is not None:
        problem = f"{elsewhere.name} is open in {elsewhere.engine}: {engine or TRANSFORMERS} reads directories"
        raise EvaluationError("engine-open-elsewhere", problem, hint="give a directory")
    if engine is not None:
        engine_named(engine).check_installed()
    # What can be wrong with either model is said before minutes are spent on the other.
    hardware: dict[str, Any] = {"device": device, "dtype": dtype, "batch_size": batch_size}
    models = [m if isinstance(m, Model) else _opened(open_model(m), engine, hardware) for m in given]
    for one in models:
        one.check_hardware()
    languages = [language_of(m.layout.checkpoint) if m.layout else None for m in models]
    language = languages[0] if languages[0] == languages[-1] else None
    data = [data] if isinstance(data, str) else list(data)
    if tasks is None and not data and language is None:
        expected = "a text file, or generic for the packaged text"
        raise EvaluationError("data-missing", "is missing", field="data", expected=expected)
    contexts = [m.context for m in models if m.context]
    request = replace(request or TaskOptions(), context=min(contexts) if contexts else None)
    names = tasks or (language.evaluation if language and not data else "perplexity")
    known = registry.known_tasks(language, data)
    jobs = registry.prepare(names, data, request, baseline=baseline is not None, known=known)
    before = models[0] if baseline is not None else None
    try:
        measured = runner.run(jobs, models[-1], before, cache=cache, bars=bars, finished=finished)
    finally:
        for one in models:
            if one not in given:
                one.release()
    return Results(record.evidence for record in measured)


def _opened(layout: Layout, name: str | None, hardware: dict[str, Any]) -> Model:
    form = layout.checkpoint.form
    engine = engine_for(form) if name is None and form != TRANSFORMERS else engine_named(name or TRANSFORMERS)
    return engine.model(layout, **hardware)


def jobs_of_one(
    layout: Layout, tasks: str | Sequence[str], data: str | Sequence[str] = (), *, limit: int | None = None
) -> list[Job]:
    """The jobs of tasks, as in :func:`evaluate`, that run on one model alone; of each the first ``limit`` items.

    Raises:
        EvaluationError: an unknown task, one that compares two models, or unsuitable or missing data.
        MissingExtraError: lm-eval is not installed.
    """
    data = [data] if isinstance(data, str) else list(data)
    known = registry.known_tasks(language_of(layout.checkpoint), data)
    for task, _ in registry.choose(tasks, known):
        if task.compares:
            problem = "compares two models: see gatenorm eval"
            raise EvaluationError("task-compares", problem, field="tasks", given=task.name)
    with fields_named({"data": "task_data"}):  # beside a text to take perplexity on
        return registry.prepare(tasks, data, TaskOptions(limit=limit, context=layout.context), known=known)
