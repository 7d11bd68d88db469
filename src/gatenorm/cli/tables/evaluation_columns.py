"""What the tables of evaluation records share: a column a model, one for the change, and the protocol beneath."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from rich.table import Table
from rich.text import Text

from gatenorm.cli import console
from gatenorm.records.evidence import Comparison, Evidence, Figure, Perplexity, Positions

E = TypeVar("E", bound=Evidence)


def add_models(rows: Table, records: Sequence[Any], *before: str) -> None:
    """A column for each model, and one for the change where there are two; ``before`` names columns in front."""
    models = list(dict.fromkeys((r.model.name, r.edits) for r in records))
    for column in (*before, *(name for name, _ in models)):
        rows.add_column(Text(column), justify="right")
    if len(models) > 1:
        rows.add_column("change (95%)", justify="right")


def with_error(figure: Figure, form: str = ".1%") -> str:
    """A figure and its standard error, which is not known of everything: a single item has none."""
    return f"{figure.value:{form}}" + ("" if figure.stderr is None else f" ± {figure.stderr:{form}}")


def change_cell(
    changes: Sequence[Comparison], task: str, metric: str, write: Callable[[float], str] | None = None
) -> list[str]:
    """One cell: the paired difference with its interval; none where only one model was measured."""
    if not changes:
        return []
    write = write or (lambda value: f"{100 * value:+.1f}")
    for change in changes:
        paired = change.changes.get(metric)
        if change.name == task and paired is not None:
            known = paired.low is not None and paired.high is not None
            ends = f" ({write(paired.low or 0.0)} to {write(paired.high or 0.0)})" if known else ""
            return [write(paired.difference) + ends]
    return [""]


def by_task(records: Sequence[E]) -> dict[str, list[E]]:
    """The records of each task, in the order of the records."""
    grouped: dict[str, list[E]] = {}
    for record in records:
        grouped.setdefault(record.task or record.kind, []).append(record)
    return grouped


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


def say_facts(facts: Mapping[str, Any]) -> None:
    """One line with how something was measured."""
    console.say("protocol: " + "; ".join(f"{name.replace('_', ' ')} {fact}" for name, fact in facts.items()))
