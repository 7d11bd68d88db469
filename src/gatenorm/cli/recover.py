"""``gatenorm recover``: train what pruning left, or find the budget up to which that works."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatenorm.cli import console, options
from gatenorm.errors import RecoveryError

if TYPE_CHECKING:
    from gatenorm.recovery.training import Step

NAME = "recover"
EXAMPLE = "Example: gatenorm recover ./llama-16 -o ./llama-16-recovered --data train.txt --parent ./llama"


def command(
    model: options.Model,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="The new directory; with --study its folder.")
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="TEXT",
            help="What to train on: a text, .jsonl or .parquet file, hub:NAME[:CONFIG[:SPLIT]], or demo for stories of "
            "the built-in model's world.",
        ),
    ],
    held_out: Annotated[
        str | None, typer.Option("--held-out", metavar="TEXT", help="What to watch [default: the last 5% of the data].")
    ] = None,
    text_field: Annotated[
        str, typer.Option("--text-field", metavar="NAME", help="Where JSON-lines and parquet files hold the text.")
    ] = "text",
    objective: Annotated[
        str, typer.Option("--objective", help="lm (the next token), or distill (the predictions of --parent).")
    ] = "lm",
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="MODEL", help="The unpruned model: to learn from, or to compare.")
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="Of the distributions in distill.")] = 1.0,
    targets: Annotated[
        str, typer.Option("--targets", metavar="A,B", help="Where adapters go: attention, mlp.")
    ] = "attention",
    rank: Annotated[int, typer.Option("--rank", help="Of the adapters.")] = 16,
    alpha: Annotated[
        float | None, typer.Option("--alpha", help="An adapter counts alpha/rank times [default: twice the rank].")
    ] = None,
    dropout: Annotated[float, typer.Option("--dropout", help="On the adapters' inputs.")] = 0.0,
    steps: Annotated[int, typer.Option("--steps", help="Steps of the optimiser (AdamW).")] = 2000,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Its largest value.")] = 1e-3,
    schedule: Annotated[str, typer.Option("--schedule", help="cosine, linear or constant.")] = "cosine",
    warm_up: Annotated[float, typer.Option("--warm-up", help="Share of the steps in which the rate rises.")] = 0.03,
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="On the adapters.")] = 0.0,
    batch: Annotated[int, typer.Option("--batch", help="Sequences at a time, on each device.")] = 8,
    accumulation: Annotated[int, typer.Option("--accumulation", help="Such batches in a step.")] = 1,
    length: Annotated[
        int | None, typer.Option("--length", help="Tokens in a sequence [default: the model's maximum, at most 512].")
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Less memory, more time: activations are computed twice.")
    ] = False,
    watch_every: Annotated[
        int, typer.Option("--watch-every", help="Steps between looks at the held-out text; each saves the state.")
    ] = 100,
    watch_windows: Annotated[int, typer.Option("--watch-windows", help="Sequences of it that are looked at.")] = 64,
    diverged: Annotated[float, typer.Option("--diverged", help="Stop when the loss is so many times the first.")] = 3.0,
    study: Annotated[
        str | None,
        typer.Option(
            "--study",
            metavar="20%,40%,...",
            help="Prune the dense MODEL at each budget, recover, and measure before and after.",
        ),
    ] = None,
    criteria: Annotated[
        str, typer.Option("--criteria", metavar="A,B,...", help="With --study: by which layers are chosen.")
    ] = "gate-norm",
    other: Annotated[
        str | None,
        typer.Option("--other", metavar="TEXT", help="With --study: a text of another source, against over-fitting."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks", metavar="A,B,...", help="With --study: tasks of gatenorm eval [default for demo: its own]."
        ),
    ] = None,
    task_data: Annotated[
        list[str] | None, typer.Option("--task-data", metavar="[TASK=]PATH", help="What the tasks read, as in eval.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="With --study: items of each task.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="With --study: draw it (.png, .svg or .html).")
    ] = None,
    json: options.Json = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of adapters, data order and dropout.")] = 0,
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
) -> None:
    """Train low-rank adapters on a pruned MODEL and merge them. It takes data, time, and new checks of the result."""
    from gatenorm import api
    from gatenorm.recovery.settings import Settings

    console.check_json(json)
    settings = Settings(
        steps=steps,
        objective=objective,
        targets=tuple(name for name in targets.split(",") if name),
        rank=rank,
        alpha=2.0 * rank if alpha is None else alpha,
        dropout=dropout,
        learning_rate=learning_rate,
        schedule=schedule,
        warm_up=warm_up,
        weight_decay=weight_decay,
        batch=batch,
        accumulation=accumulation,
        length=length,
        seed=seed,
        dtype=dtype,
        device=device,
        checkpointing=checkpointing,
        temperature=temperature,
        watch_every=watch_every,
        watch_windows=watch_windows,
        diverged=diverged,
    )
    console.quiet_transformers()
    if study is not None:
        if plot:
            from gatenorm.report.figures.drawing import check_format

            check_format(plot)
        _study(
            model,
            out,
            data,
            _shares(study),
            [name for name in criteria.split(",") if name],
            json=json,
            plot=plot,
            settings=settings,
            held_out=held_out,
            other=other,
            tasks=tasks,
            task_data=task_data or (),
            limit=limit,
            text_field=text_field,
        )
        return
    for option, given in {"--other": other, "--tasks": tasks, "--plot": plot, "--limit": limit}.items():
        if given is not None:
            raise RecoveryError(f"{option} is about --study: leave it out, or say --study 20%,40%")
    try:
        with training_bar("recovering") as report, console.progress_bar("writing", "bytes") as writing:
            found = api.recover(
                model,
                out,
                data,
                parent=parent,
                settings=settings,
                held_out=held_out,
                text_field=text_field,
                report=report,
                writing=writing,
            )
    except KeyboardInterrupt:
        from gatenorm.recovery.state import state_file

        if state_file(out).exists():
            sys.stderr.write(f"the state is kept in {state_file(out)}: the same command goes on there\n")
        raise
    if not _main_process():
        return
    if json:
        console.write_json(json, found.to_json())
    if json != "-":
        _show(found)


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


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 120 else f"{seconds:.3g} seconds"


def _main_process() -> bool:
    from gatenorm.recovery.processes import Processes

    return Processes.here("cpu").main


def _show(found: Any) -> None:
    figures, evidence = found.figures, found.evidence[0]
    if found.already:
        console.say(f"{found.directory} is finished already; this is what was measured:")
    if found.diverged:
        console.warn(f"the training diverged and was stopped: {found.diverged}; the best of it was kept")
    windows = evidence.protocol["held_out_windows"]
    console.say(
        f"held-out perplexity {figures['perplexity_before']:.4g} pruned, {figures['perplexity_merged']:.4g} recovered"
        + (f", {figures['perplexity_parent']:.4g} the parent" if "perplexity_parent" in figures else "")
        + f" ({windows} windows of {evidence.protocol['length']} tokens)"
    )
    if "won_back" in figures:
        console.say(f"of the log-perplexity that pruning lost, {figures['won_back']:.0%} was won back")
    console.say(
        f"{figures['best_step']:.0f} of {figures['steps']:.0f} steps, {figures['tokens']:,.0f} tokens, "
        f"{_duration(evidence.seconds)}; {figures['trainable']:,.0f} trained parameters"
    )
    console.say(f"{found.directory}: pruned and recovered; the adapters alone lie in {found.directory / 'adapter'}")
    console.say("It is another model than the pruned one: check its quality, licence, safety and refusals anew")


def _study(model: str, out: Path, data: str, shares: list[float], criteria: list[str], **how: Any) -> None:
    from gatenorm import api

    json, plot = how.pop("json"), how.pop("plot")
    with _study_bars() as report:
        found = api.recovery_study(model, out, data, shares, criteria, report=report, **how)
    if json:
        console.write_json(json, found.to_json())
    if plot:
        from gatenorm.report.figures.recovery import plot_study

        plot_study(found, plot)
    if json != "-":
        from gatenorm.report.study_tables import study_lines, study_tables

        for table in study_tables(found):
            console.print_table(table)
        for line in study_lines(found):
            console.say(line)


@contextmanager
def _study_bars() -> Iterator[Callable[[str], Callable[[Step], None]]]:
    with training_bar("recovering") as tell:
        yield lambda name: tell


def _shares(text: str) -> list[float]:
    """Shares out of ``20%,0.4``.

    Raises:
        RecoveryError: anything else.
    """
    found = []
    for part in text.split(","):
        try:
            share = float(part.strip().removesuffix("%")) / (100 if "%" in part else 1)
        except ValueError:
            share = 0.0
        if not 0 < share < 1:
            raise RecoveryError(f"--study {text}: {part.strip()!r} is no share; expected such as 20%,40% or 0.2,0.4")
        found.append(share)
    return found
