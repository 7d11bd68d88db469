"""``gatenorm curve``: what is left by number of removed sublayers: perplexity, and on request tasks and speed."""

from typing import Unpack

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
    counts: evaluation.Counts,
    seeds: evaluation.Seeds,
    window: evaluation.ContextWindow,
    documents: evaluation.Documents,
    limit: evaluation.Limit,
    spread: evaluation.Spread,
    task_limit: evaluation.TaskLimit,
    latency: speed.Latency,
    new_tokens: speed.NewTokens,
    rounds: speed.Rounds,
    state: evaluation.State,
    json: common.Json,
    plot: common.Plot,
    pareto: speed.Pareto,
    **how: Unpack[ranking.Windows],
) -> None:
    """Measure what MODEL is worth without its 1, 2, 3, ... weakest sublayers, by several criteria."""
    from gatenorm import api
    from gatenorm.analysis.curve import evaluation_text
    from gatenorm.analysis.latency import LatencyProbe
    from gatenorm.cli.tables.curve import show
    from gatenorm.criteria.criterion_spec import criterion_specs
    from gatenorm.evaluation.tasks.perplexity import Protocol
    from gatenorm.models.loading import check_hardware

    if pareto and latency is None:
        hint = f"give {named('latency')} too"
        raise EvaluationError("latency-missing", "draws quality against speed", field="pareto", hint=hint)
    if tasks is None and (task_data or task_limit):
        field = "task_data" if task_data else "task_limit"
        raise EvaluationError("tasks-missing", f"is used only with {named('tasks')}", field=field)
    tokens = checks.tokens(how)
    criterion_specs(criteria, tokens)
    evaluation_text(data)
    check_hardware(how["device"], how["dtype"])
    protocol = Protocol(window, documents, limit, how["batch_size"], spread=spread)
    session = checks.session(model, how)
    timing = None if latency is None else LatencyProbe(latency, new_tokens, rounds=rounds)
    with console.kept_in(state), console.progress_bar("curve", "steps") as progress:
        result = api.curve(
            session,
            criteria,
            data,
            counts=counts,
            protocol=protocol,
            calibration=tokens,
            seed=how["seed"],
            seeds=seeds,
            tasks=tasks or (),
            task_data=task_data or (),
            task_limit=task_limit or limit,
            latency=timing,
            state=state,
            progress=progress,
        )
    if plot:
        from gatenorm.report.figures.curve import plot_curve

        plot_curve(result, plot)
    if pareto:
        from gatenorm.report.figures.curve import plot_pareto

        plot_pareto(result, pareto)
    console.deliver(json, result, lambda: show(result))
