"""What commands print for people: views of records, nothing measured or decided here."""

from __future__ import annotations

from typing import Any


def table(title: str, *columns: str, **how: Any) -> Any:
    """A rich table; columns whose name begins with ``>`` are aligned on the right, the others fold."""
    from rich.table import Table
    from rich.text import Text

    rows = Table(title=Text(title), title_justify="left", **how)
    for column in columns:
        right = column.startswith(">")
        rows.add_column(Text(column.removeprefix(">")), justify="right" if right else "left", overflow="fold")
    return rows
