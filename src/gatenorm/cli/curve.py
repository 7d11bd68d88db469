"""``gatenorm curve``: what is left by number of removed sublayers: perplexity, and on request tasks and speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gatenorm.cli import checks, console
from gatenorm.cli.options import common, evaluation, ranking, speed
from gatenorm.errors import EvaluationError, named

NAME = "curve"
EXAMPLE = (
    "Example: gatenorm curve ./llama --criteria gate-norm,cosine@self --data wikitext2=wiki.test.raw "
    "--state curve-state --plot curve.svg"
)


def command(
    *,
    model: common.Model,
    data: evaluation.Text,
    tasks: evaluation.MoreTasks,
    task_data: evaluation.TaskData,
    criteria: ranking.Criteria = ("gate-norm", "cosine@random", "cosine@self"),
    calibration: ranking.Calibration,
    samples: ranking.Samples,
    length: ranking.Length,
    counts: evaluation.Counts,
    seeds: evaluation.Seeds,
    window: evaluation.ContextWindow,
    documents: evaluation.Documents,
    limit: evaluation.Limit,
    task_limit: evaluation.TaskLimit,
    latency: speed.Latency,
    new_tokens: speed.NewTokens,
    rounds: speed.Rounds,
    family: common.Family,
    device: common.Device,
    dtype: common.Dtype,
    batch_size: common.BatchSize,
    state: evaluation.State,
    json: common.Json,
    plot: common.Plot,
    pareto: speed.Pareto,
    seed: common.RandomSeed,
) -> None:
    """Measure what MODEL is worth without its 1, 2, 3, ... weakest sublayers, by several criteria."""
    from gatenorm import api
    from gatenorm.analysis.curve import evaluation_text
    from gatenorm.analysis.latency import LatencyProbe
    from gatenorm.criteria.criterion_spec import criterion_specs
    from gatenorm.evaluation.tasks.perplexity import Protocol
    from gatenorm.models.loading import check_hardware

    console.check_json(json)
    console.check_plots(plot=plot, pareto=pareto)
    if pareto and latency is None:
        raise EvaluationError(
            "latency-missing", "draws quality against speed", field="pareto", hint=f"give {named('latency')} too"
        )
    if tasks is None and (task_data or task_limit):
        field = "task_data" if task_data else "task_limit"
        raise EvaluationError("tasks-missing", f"is used only with {named('tasks')}", field=field)
    if documents == "":
        raise EvaluationError(
            "documents-empty", "is empty", field="documents", expected="a separator, such as '<|endoftext|>'"
        )
    tokens = checks.tokens(calibration, samples, length, None, seed, batch_size)
    criterion_specs(criteria, tokens)
    evaluation_text(data)
    console.quiet_transformers()
    check_hardware(device, dtype)
    protocol = Protocol(window, documents, limit, batch_size)
    session = api.session(model, family=family, device=device, dtype=dtype)
    timing = None if latency is None else LatencyProbe(latency, new_tokens, rounds=rounds)
    with console.kept_in(state), console.progress_bar("curve", "steps") as progress:
        found = api.curve(
            session,
            criteria,
            data,
            counts=counts,
            protocol=protocol,
            calibration=tokens,
            seed=seed,
            seeds=seeds,
            tasks=tasks or (),
            task_data=task_data or (),
            task_limit=task_limit or limit,
            latency=timing,
            state=state,
            progress=progress,
        )
    if json:
        console.write_json(json, found)
    if plot:
        from gatenorm.report.figures.curve import plot_curve

        plot_curve(found, plot)
    if pareto:
        from gatenorm.report.figures.pareto import plot_pareto

        plot_pareto(found, pareto)
    if json != "-":
        _show(found)


def _show(found: Any) -> None:
    name = found.model.name
    columns = _columns(found, lambda line, n: f"{line.perplexity[n]:.4g}")
    spread = found.spread()
    if spread:
        head = f"random, {len(found.band)} draws: least, geom. mean, largest"
        columns[head] = [", ".join(f"{value:.4g}" for value in spread[n]) for n in found.counts]
    title = f"{name}: perplexity on {found.data['name']} by number of removed attention sublayers"
    console.print_table(_by_count(found, title, columns))
    console.say("protocol: " + _words(found.protocol))
    if found.has("accuracy"):
        columns = _columns(found, lambda line, n: f"{line.figures['accuracy'][n]:.3f}")
        console.print_table(_by_count(found, f"{name}: mean accuracy on the tasks", columns))
        judged = (f"{task} ({how['figure']})" for task, how in found.measured.items() if how.get("figure"))
        console.say(f"tasks: {', '.join(judged)}")
    if found.has("prefill_speedup"):
        columns = _columns(found, _speed)
        console.print_table(_by_count(found, f"{name}: speed-up over the unpruned model, prefill / decode", columns))
        console.say("protocol: " + _words(found.measured["latency"]))
    for warning in found.warnings:
        console.say(f"warning: {warning.message}")


def _columns(found: Any, cell: Callable[[Any, int], str]) -> dict[str, list[str]]:
    return {line.name: [cell(line, n) for n in found.counts] for line in found.lines}


def _speed(line: Any, count: int) -> str:
    return " / ".join(f"{line.figures[f'{phase}_speedup'][count]:.2f}" for phase in ("prefill", "decode"))


def _by_count(found: Any, title: str, columns: Mapping[str, Sequence[str]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    table.add_column("removed", justify="right")
    for name in columns:
        table.add_column(name, justify="right")
    for count, *cells in zip(found.counts, *columns.values(), strict=True):
        table.add_row(str(count), *cells)
    return table


def _words(protocol: Any) -> str:
    return "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in protocol.items())
