"""``gatenorm recover``: train what pruning left, or find the budget up to which that works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Unpack

from gatenorm.cli import console
from gatenorm.cli.estimate import Estimate
from gatenorm.cli.options import common, evaluation, ranking, recovery
from gatenorm.errors import RecoveryError, named
from gatenorm.records.numbers import duration

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
    samples: recovery.Samples,
    self_temperature: ranking.SelfTemperature,
    self_top_p: ranking.SelfTopP,
    self_bare: ranking.SelfBare,
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
    """Train a pruned MODEL: LoRA adapters, which are then merged, or fitted maps. Evaluate the result again."""
    from gatenorm import api
    from gatenorm.calibration.samples import Sampling
    from gatenorm.cli.tables.recovery import show, show_study
    from gatenorm.records.recovery_settings import Settings
    from gatenorm.recovery.processes import Processes
    from gatenorm.recovery.state import state_file

    settings = Settings(**training, alpha=2.0 * training["rank"] if alpha is None else alpha)
    console.quiet_transformers()
    texts: dict[str, Any] = {
        "settings": settings,
        "held_out": held_out,
        "text_field": text_field,
        "samples": samples,
        "sampling": Sampling(self_temperature, self_top_p, chat=not self_bare),
    }
    if study is not None:
        with training_bar() as report, console.progress_bar("self text", "tokens") as drawing:
            result = api.recovery_study(
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
                drawing=drawing,
                **texts,
            )
        if plot:
            from gatenorm.report.figures.recovery import plot_study

            plot_study(result, plot)
        console.deliver(json, result, lambda: show_study(result))
        return
    for field, given in {"other": other, "tasks": tasks, "task_data": task_data, "plot": plot, "limit": limit}.items():
        if given is not None:
            raise RecoveryError("study-missing", f"is used only with {named('study')}", field=field)
    with (
        console.kept_in(state_file(out)),
        training_bar() as report,
        console.progress_bar("self text", "tokens") as drawing,
        console.progress_bar("writing", "bytes") as writing,
    ):
        recovered = api.recover(
            model, out, data, parent=parent, report=report, drawing=drawing, writing=writing, **texts
        )
    if Processes.here("cpu").main:
        console.deliver(json, recovered.record, lambda: show(recovered))


@contextmanager
def training_bar() -> Iterator[Callable[[Step], None]]:
    """A bar on stderr with losses and pace while a training runs; nothing where stderr is no terminal."""
    estimate = Estimate("recovering")
    with console.bar("recovering", "count", "status", width=20, status="") as update:

        def report(step: Step) -> None:
            status = (
                f"loss {step.loss:.3f}, held out {step.held_out:.3f} (best {step.best:.3f}), "
                f"{step.tokens_per_second:,.0f} tokens/s, {duration(step.seconds_left)} left"
            )
            update(completed=step.step, total=step.steps, status=status)
            console.tell(estimate.line(step.step, step.steps))

        yield report
