"""``gatenorm recover``: train what pruning left, or find the budget up to which that works."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Unpack

from gatenorm.cli import console
from gatenorm.cli.options import common, evaluation, recovery
from gatenorm.errors import RecoveryError, named

if TYPE_CHECKING:
    from gatenorm.recovery.training import Step

NAME = "recover"
EXAMPLE = "Example: gatenorm recover ./llama-16 -o ./llama-16-recovered --data train.txt --parent ./llama"


def command(
    *,
    model: common.Model,
    out: recovery.Out,
    data: recovery.Data,
    held_out: recovery.HeldOut,
    text_field: evaluation.TextField,
    parent: recovery.Parent,
    alpha: recovery.Alpha,
    study: recovery.Study,
    criteria: recovery.StudyCriteria,
    other: recovery.OtherText,
    tasks: recovery.StudyTasks,
    task_data: evaluation.TaskData,
    limit: evaluation.Limit,
    json: common.Json,
    plot: common.Plot,
    **training: Unpack[recovery.Training],
) -> None:
    """Train low-rank adapters on a pruned MODEL and merge them. It takes data, time, and new checks of the result."""
    from gatenorm import api
    from gatenorm.cli.tables.recovery import show
    from gatenorm.recovery.settings import Settings

    settings = Settings(**training, alpha=2.0 * training["rank"] if alpha is None else alpha)
    console.quiet_transformers()
    texts: dict[str, Any] = {"settings": settings, "held_out": held_out, "text_field": text_field}
    if study is not None:
        with training_bar("recovering") as report:
            found = api.recovery_study(
                model,
                out,
                data,
                study,
                criteria,
                other=other,
                tasks=tasks,
                task_data=task_data or (),
                limit=limit,
                report=lambda name: report,
                **texts,
            )
        _show_study(found, json, plot)
        return
    for field, given in {"other": other, "tasks": tasks, "plot": plot, "limit": limit}.items():
        if given is not None:
            raise RecoveryError("study-missing", f"is used only with {named('study')}", field=field)
    with (
        _state_kept(out),
        training_bar("recovering") as report,
        console.progress_bar("writing", "bytes") as writing,
    ):
        recovered = api.recover(model, out, data, parent=parent, report=report, writing=writing, **texts)
    if not _main_process():
        return
    console.deliver(json, recovered.to_json(), lambda: show(recovered))


@contextmanager
def _state_kept(out: Any) -> Iterator[None]:
    """Say, when the block is interrupted, that the same command resumes the training."""
    from gatenorm.recovery.state import state_file

    with console.kept_in(state_file(out)):
        yield


@contextmanager
def training_bar(what: str) -> Iterator[Callable[[Step], None]]:
    """A bar on stderr with losses and pace while a training runs; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None, told="")

        def tell(step: Step) -> None:
            told = (
                f"loss {step.loss:.3f}, held out {step.held_out:.3f} (best {step.best:.3f}), "
                f"{step.tokens_per_second:,.0f} tokens/s, {_clock(step.seconds_left)} left"
            )
            bars.update(task, completed=step.step, total=step.steps, told=told)

        yield tell


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _main_process() -> bool:
    from gatenorm.recovery.processes import Processes

    return Processes.here("cpu").main


def _show_study(found: Any, json: str | None, plot: Any) -> None:
    from gatenorm.report.figures.recovery import plot_study
    from gatenorm.report.study_tables import study_lines, study_tables

    if json:
        console.write_json(json, found.to_json())
    if plot:
        plot_study(found, plot)
    if json != "-":
        for table in study_tables(found):
            console.print_table(table)
        for line in study_lines(found):
            console.say(line)
