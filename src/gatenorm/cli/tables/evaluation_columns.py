"""What the tables of evaluation records share: a column a model, one for the change, and the protocol beneath."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from rich.table import Table
from rich.text import Text

from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.findings import within_chance
from gatenorm.records.evidence import (
    Comparison,
    Evidence,
    Figure,
    Perplexity,
    Positions,
    Refusal,
    Retrieval,
    TaskEvidence,
    ZeroShotAverage,
)

E = TypeVar("E", bound=Evidence)
# What stands in a column, by a record and a metric.
Cell = Callable[[E, str], str]


def named(record: Evidence, _: str) -> str:
    """The task, for a column."""
    return record.task or record.kind


def metric_of(_: Evidence, metric: str) -> str:
    """The metric, for a column."""
    return metric


def _add_models(rows: Table, records: Sequence[Evidence]) -> None:
    """A column for each model, and one for the change where there are two."""
    models = list(dict.fromkeys((r.model.name, r.edits) for r in records))
    for name, _ in models:
        rows.add_column(Text(name), justify="right")
    if len(models) > 1:
        rows.add_column("change (95%)", justify="right")


def _with_error(figure: Figure, form: str) -> str:
    """A figure and its standard error, which is not known of everything: a single item has none."""
    return f"{figure.value:{form}}" + ("" if figure.stderr is None else f" ± {figure.stderr:{form}}")


def figures_table(
    title: str,
    columns: Mapping[str, Cell[E]],
    records: Sequence[E],
    changes: Sequence[Comparison],
    metrics: Collection[str] = (),
    form: str = ".1%",
) -> Table:
    """A row for each metric of each task: a column a model, and one for the paired difference, in points of shares.

    Args:
        columns: on the left, and what stands there by the first model's record and the metric.
        metrics: as far as the record has them; all by default.
        form: of the figures.
    """
    rows = table(title, *columns)
    _add_models(rows, records)
    for own in _by_task(records).values():
        first = _metrics_of(own[0])
        for metric in (name for name in metrics or first if name in first):
            figures = (_metrics_of(record).get(metric) for record in own)
            values = ("" if figure is None else _with_error(figure, form) for figure in figures)
            said = (cell(own[0], metric) for cell in columns.values())
            rows.add_row(*said, *values, *_change_cell(changes, own[0].task, metric, form))
    return rows


def _metrics_of(record: Evidence) -> Mapping[str, Figure]:
    """The figures of a record by name, with their errors where it has them."""
    if isinstance(record, (TaskEvidence, Retrieval, Refusal, ZeroShotAverage)):
        return record.metrics
    return {name: Figure(value=value) for name, value in record.numbers().items()}


def _change_cell(changes: Sequence[Comparison], task: str, metric: str, form: str) -> list[str]:
    """One cell: the paired difference with its interval; none where only one model was measured."""
    if not changes:
        return []
    paired = next((c.changes[metric] for c in changes if c.name == task and metric in c.changes), None)
    if paired is None:
        return [""]

    def write(value: float) -> str:
        return f"{100 * value:+.1f}" if form.endswith("%") else f"{value:+{form}}"

    known = paired.low is not None and paired.high is not None
    ends = f" ({write(paired.low or 0.0)} to {write(paired.high or 0.0)})" if known else ""
    return [write(paired.difference) + ends]


def _by_task(records: Sequence[E]) -> dict[str, list[E]]:
    """The records of each task, in the order of the records."""
    grouped: dict[str, list[E]] = {}
    for record in records:
        grouped.setdefault(named(record, ""), []).append(record)
    return grouped


def say_chance(records: Sequence[TaskEvidence] | Sequence[Retrieval]) -> None:
    """Names the tasks at which the first model does not show that it does better than chance."""
    first = records[0]
    own = [r for r in records if (r.model, r.edits) == (first.model, first.edits)]
    guessed = [r.task for r in own if within_chance(_metrics_of(r)[r.headline], r.chance)]
    if guessed:
        tasks = f"{', '.join(guessed)}; these tasks cannot show damage"
        console.say(f"note: {first.model.name} is within two standard errors of chance: {tasks}")


def other_tokens(records: Sequence[Perplexity] | Sequence[Positions]) -> str:
    """What has to be said where the models cut one text into different tokens, and no change is given; else nothing."""
    if len({r.data.tokens_sha256 for r in records}) < 2:
        return ""
    said = "note: the models cut the text into different tokens, so figures by token do not compare"
    if any(isinstance(r, Perplexity) and r.word_perplexity is not None for r in records):
        limited = any(r.protocol.tokens_read is not None for r in records)
        said += ", nor those by word: --limit takes other parts of the text" if limited else "; those by word do"
    return said


def say_protocol(record: Evidence, *without: str) -> None:
    """One line with the protocol, less what the table says."""
    say_facts({name: fact for name, fact in record.facts().items() if name not in without})


def say_facts(facts: Mapping[str, object]) -> None:
    """One line with how something was measured."""
    console.say("protocol: " + "; ".join(f"{name.replace('_', ' ')} {fact}" for name, fact in facts.items()))
