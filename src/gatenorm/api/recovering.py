"""Training after pruning: one model, or a study of the budgets up to which it works."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gatenorm.api.opening import ModelLike, open_model
from gatenorm.api.pruning import plan
from gatenorm.calibration.samples import SELF, Calibration, Sampling
from gatenorm.errors import RecoveryError
from gatenorm.evaluation.core import registry
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.evaluation.core.text import Text
from gatenorm.families import Layout
from gatenorm.models.named import language_of, named_text
from gatenorm.progress import Progress
from gatenorm.records import Plan
from gatenorm.records.recovery_settings import SAMPLES, Settings
from gatenorm.recovery import corpus, recovering, study as studies
from gatenorm.recovery.drawn_text import check_not_trained_on, drawn_sources, drawn_text
from gatenorm.recovery.processes import Processes
from gatenorm.recovery.record import Recovered
from gatenorm.recovery.study_record import Study
from gatenorm.recovery.training import Report, Step


def recover(
    pruned: ModelLike,
    out: str | os.PathLike[str],
    data: str,
    *,
    steps: int | None = None,
    objective: str | None = None,
    parent: ModelLike | None = None,
    settings: Settings | None = None,
    held_out: str | None = None,
    text_field: str = "text",
    samples: int = SAMPLES,
    sampling: Sampling = Sampling(),  # noqa: B008 - frozen
    progress: Progress | None = None,
    report: Report | None = None,
    drawing: Progress | None = None,
    writing: Progress | None = None,
) -> Recovered:
    """Train adapters or fitted maps of a pruned checkpoint; ``out`` is then that checkpoint with what was trained.

    Where adapters alone were trained, ``out/adapter`` holds them in PEFT's format. Repeating a call that was stopped
    continues it; repeating a finished one reads its result.

    Args:
        data: the training text: a file as in an evaluation, ``hub:NAME[:CONFIG[:SPLIT]]``, ``generic`` (packaged
            public-domain text), ``self`` (written by ``parent``), both as ``generic,self``, or ``demo`` for stories of
            the built-in model's world.
        steps: of the optimiser; as the settings say, 2,000 without any.
        objective: ``lm`` (the paper's) or ``distill``, which learns from ``parent``; as the settings say, else ``lm``.
        parent: the unpruned model; with ``lm`` only measured, to say which share of the loss was won back.
        settings: all other numbers.
        held_out: the text that is watched; the last 5% of the data without one.
        text_field: where JSON lines and parquet files hold the text.
        samples, sampling: how many sequences ``self`` is, and how they are drawn.
        drawing: called with (tokens drawn, tokens to draw) while the parent writes.
        report: called after every step with its loss, the held-out loss, tokens per second and the time left.
        writing: called with (bytes written, bytes in all).

    Raises:
        RecoveryError: a dense model, nothing to train, texts that are too short, a parent that does not fit, or no step
            that was better than the pruned model; then nothing is written.
        OutputError: ``out`` is taken, holds another recovery, or cannot be written.
        CheckpointError, FamilyError, EvaluationError, MissingExtraError: as opening and loading.
    """
    chosen = settings or Settings()
    chosen = replace(chosen, steps=steps or chosen.steps, objective=objective or chosen.objective)
    layout, unpruned = open_model(pruned), None if parent is None else open_model(parent)
    text = _Texts(chosen, text_field, data, unpruned, samples, sampling, drawing)

    def reported(step: Step) -> None:
        if progress:
            progress(step.step, step.steps)
        if report:
            report(step)

    return recovering.recover(
        layout,
        Path(out),
        text(data),
        chosen,
        held_out=None if held_out is None else text(held_out, "held_out"),
        parent=unpruned,
        report=reported,
        writing=writing,
    )


def recovery_study(
    model: ModelLike,
    out: str | os.PathLike[str],
    data: str,
    shares: Sequence[float],
    criteria: Sequence[str] = ("gate-norm",),
    *,
    settings: Settings | None = None,
    held_out: str | None = None,
    other: str | None = None,
    tasks: str | Sequence[str] | None = None,
    task_data: Sequence[str] = (),
    limit: int | None = None,
    text_field: str = "text",
    samples: int = SAMPLES,
    sampling: Sampling = Sampling(),  # noqa: B008 - frozen
    progress: Progress | None = None,
    report: Callable[[str], Report] | None = None,
    drawing: Progress | None = None,
) -> Study:
    """Prune a dense model at several budgets, recover each, and measure all of them before and after.

    Args:
        out: a directory for the measurements and the recovered models, from which a stopped study continues.
        shares: of the attention sublayers, each rounded as ``prune --share`` does.
        criteria: names as in :func:`gatenorm.api.compare`, such as ``gate-norm`` or ``cosine@random``.
        data: as in :func:`recover`; ``self`` is written by the dense model.
        other: a text of another source, to see whether what was trained on one was lost on others.
        tasks, task_data: what else is measured, as in :func:`gatenorm.api.evaluate`; the built-in model's own tasks for
            models of its language.
        limit: items of each task.
        report: called with a variant's name when its training begins; what it gives is told of every step.

    Raises:
        RecoveryError: a pruned model.
        OutputError: ``out`` holds another study.
        Others: as :func:`recover`, :func:`gatenorm.api.plan` and the tasks.
    """
    layout, chosen = open_model(model), settings or Settings()
    if layout.edits:
        name, expected = layout.checkpoint.name, "a dense model"
        raise RecoveryError("model-pruned", "is pruned already", field="model", given=name, expected=expected)
    language = language_of(layout.checkpoint)
    names = tasks or (language.evaluation if language and not task_data else ())
    known = registry.known_tasks(language, task_data)
    request = TaskOptions(limit=limit, context=layout.context)
    jobs = registry.prepare(names, list(task_data), request, known=known) if names else []
    text = _Texts(chosen, text_field, data, layout, samples, sampling, drawing)
    return studies.study(
        layout,
        Path(out),
        text(data),
        shares,
        criteria,
        chosen,
        held_out=None if held_out is None else text(held_out, "held_out"),
        other=None if other is None else text(other, "other"),
        # Stories of its own world are measured by its own protocol, which the text's perplexity would only repeat.
        jobs=[job for job in jobs if job.run is not None and job.kind != "perplexity"],
        plan=_planned,
        progress=progress,
        report=report,
    )


def _planned(layout: Layout, share: float, criterion: str, settings: Settings) -> Plan:
    return plan(layout, share=share, criterion=criterion, seed=settings.seed, device=settings.device)


@dataclass(frozen=True)
class _Texts:
    """Gives the text that a parameter names; ``data`` is trained on, ``writer`` writes the model's own."""

    settings: Settings
    field: str
    data: str
    writer: Layout | None
    samples: int
    sampling: Sampling
    drawing: Progress | None

    def __call__(self, source: str, called: str = "data") -> Text:
        settings = self.settings
        length = settings.length_in(self.writer.context if self.writer else None)
        together = Processes.here(settings.device)
        names = drawn_sources(source, called)
        if called != "data":
            check_not_trained_on(self.data, source, called)
        if names:
            # Held-out text must not be the text that is trained on.
            train = called == "data"
            seed, samples = (settings.seed, self.samples) if train else (settings.seed + 1, settings.watch_windows)
            asked = Calibration(SELF, samples, length, seed=seed, sampling=self.sampling)
            if not together.main:
                together.wait()  # until the main process has kept what the model wrote
            drawn = drawn_text(
                names, self.writer, asked, device=together.device, dtype=settings.dtype, progress=self.drawing
            )
            if together.main:
                together.wait()
            return drawn
        own = named_text(source)
        if own is not None:
            written: Text = own(settings.steps * settings.sequences * together.count * length)
            return written
        return corpus.read(source, settings, length, self.field, processes=together.count, called=called)
