"""How tables fit the width of stdout."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def narrowed(table: Table, expendable: Sequence[str] = ()) -> Table:
    """The same table: where it is too wide, headers break, then columns go that are ``expendable``, first to last.

    Numbers and names stay whole as long as texts beside them can break.
    """
    if fits(table):
        return table
    by_name = {str(column.header): column for column in table.columns}
    whole = [c for c in table.columns if c.justify == "right" or not any(" " in str(cell) for cell in c.cells)]
    for column in whole:
        words = textwrap.wrap(str(column.header), 1, break_long_words=False)
        column.min_width = max(map(len, (*words, *"\n".join(map(str, column.cells)).split("\n"))))
        column.header, column.no_wrap = textwrap.fill(str(column.header), column.min_width), True
    for name in expendable:
        if fits(table):
            return table
        table.columns = [column for column in table.columns if column is not by_name.get(name)]
        for place, column in enumerate(table.columns):
            column._index = place
    if not fits(table, broken=True):
        for column in whole:
            column.min_width, column.no_wrap, column.overflow = None, False, "fold"
    return table


def stdout_console() -> Console:
    """What prints tables on stdout: as wide as the terminal, or 120 columns where stdout is a file."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False, emoji=False)


def fits(table: Table, broken: bool = False) -> bool:
    """Whether a rich table is no wider than stdout, with its texts ``broken`` or not."""
    from rich.measure import Measurement

    at = stdout_console()
    needed = Measurement.get(at, at.options.update(max_width=10_000), table)
    return bool((needed.minimum if broken else needed.maximum) <= at.width)
