"""What commands print for people: views of records, nothing measured or decided here."""

from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from gatenorm.cli import console
from gatenorm.errors import printable
from gatenorm.records.evidence import Evidence


def table(title: str, *columns: str, **how: Any) -> Table:
    """A rich table; columns whose name begins with ``>`` are aligned on the right, the others fold."""
    rows = Table(title=Text(printable(title)), title_justify="left", **how)
    for column in columns:
        right = column.startswith(">")
        rows.add_column(
            Text(printable(column.removeprefix(">"))), justify="right" if right else "left", overflow="fold"
        )
    return rows


def say_assumptions(records: Iterable[Evidence]) -> None:
    """Repeat below a table what is assumed of the models whose figures stand there."""
    for said in dict.fromkeys(f"{r.model.name}: {r.model.assumption}" for r in records if r.model.assumption):
        console.say(said)
