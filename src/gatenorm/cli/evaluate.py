"""``gatenorm eval``: how well a model does, and what changed against a baseline."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gatenorm.cli import console
from gatenorm.cli.options import common, evaluation
from gatenorm.errors import EvaluationError, named

if TYPE_CHECKING:
    from gatenorm.records import Evidence

NAME = "eval"
EXAMPLE = "Example: gatenorm eval ./llama-8 --baseline ./llama --tasks perplexity --data wikitext2=wiki.test.raw"
# Records whose items are few and are what one reads them for.
_ITEMS_MATTER = ("comparison", "domain", "refusal")


def command(
    *,
    model: common.Model,
    data: evaluation.Data,
    baseline: common.Baseline,
    tasks: evaluation.Tasks,
    engine: evaluation.Engine,
    no_cache: evaluation.NoCache,
    device: common.Device,
    dtype: common.Dtype,
    batch_size: common.BatchSize,
    json: common.Json,
    csv: common.Csv,
    items: evaluation.Items,
    plot: common.Plot,
    **protocol: Unpack[evaluation.Protocol],
) -> None:
    """Measure MODEL on texts and tasks, and what changed against a baseline."""
    from gatenorm.api import evaluate
    from gatenorm.evaluation.core.job import TaskOptions
    from gatenorm.records import Results
    from gatenorm.results import ResultStore

    if plot is not None:
        _check_plot(plot, model, tasks, data)
    console.quiet_transformers()
    done: list[Any] = []
    cache = None if no_cache else ResultStore()
    try:
        evaluate(
            model,
            tasks,
            data or (),
            baseline=baseline,
            request=TaskOptions(**protocol),
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            engine=engine,
            cache=cache,
            bars=console.progress_bar,
            finished=done.append,
        )
    except KeyboardInterrupt:
        if cache and done:
            sys.stderr.write(
                f"{len(done)} finished results are kept in {cache.directory}: repeat the command to continue\n"
            )
        raise
    records = [d.evidence for d in done]
    if json:
        console.write_json(json, [_for_file(record, items) for record in records])
    if csv:
        console.write_csv(csv, Results(records).rows())
    if plot is not None:
        from gatenorm.report.figures.evaluations import plot_retrieval

        plot_retrieval(records, plot)
    if "-" not in (json, csv):
        from gatenorm.cli.tables.evaluation import show

        show(records)
        cached = sum(d.cached for d in done)
        if cached:
            console.say(f"{cached} of these figures were measured before (--no-cache measures again)")


def _check_plot(plot: Path, model: str, tasks: str | None, data: Sequence[str] | None) -> None:
    """Refuse a plot of what is not measured, before anything is.

    Raises:
        EvaluationError: retrieval is not asked for, or is another task in this model's own language.
    """
    from gatenorm.api import open_model
    from gatenorm.models.named import language_of, named_model

    if "retrieval" not in (tasks or "").split(","):
        hint = f"add it to {named('tasks')}"
        raise EvaluationError("plot-without-retrieval", "draws the task retrieval", field="plot", given=plot, hint=hint)
    own = named_model(model)
    if own is None and Path(model).is_dir():
        own = language_of(open_model(model).checkpoint)
    if own is not None and "retrieval" in own.evaluations and not data:
        problem = f"draws context lengths and depths, and {model} is asked for facts at fixed distances instead"
        hint = "leave it out: the table holds all figures"
        raise EvaluationError("plot-own-language", problem, field="plot", given=plot, hint=hint)


def _for_file(record: "Evidence", items: bool) -> dict[str, Any]:
    data = record.to_dict()
    if not items and record.kind not in _ITEMS_MATTER:
        data.pop("items", None)
    return data
