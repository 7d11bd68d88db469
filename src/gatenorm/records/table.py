"""A result as a table: a line in a terminal, HTML in a notebook, CSV in a file, a frame of pandas."""

from collections.abc import Iterator, Mapping
from html import escape
from itertools import chain, islice
from typing import Any, TypeVar

from gatenorm.errors import GatenormError

Row = Mapping[str, object]
# Rows of a table in a notebook; a data frame has them all.
_SHOWN = 60


class Table:
    """Something with rows. A kind of result says what they are, and what it is about; the rest follows."""

    __slots__ = ()

    def rows(self) -> Iterator[Row]:
        """The rows, all with the same columns: a field a row, unless a kind of record has better ones."""
        for name in getattr(self, "__struct_fields__", ()):
            value = getattr(self, name)
            if isinstance(value, (str, int, float)):
                yield {"field": name, "value": value}

    def subject(self) -> str:
        """What it is about in a few words: the model's name, where it has one."""
        return str(getattr(getattr(self, "model", None), "name", "") or getattr(self, "name", ""))

    def to_frame(self) -> Any:
        """The rows as a ``pandas.DataFrame``.

        Raises:
            GatenormError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise GatenormError("pandas-missing", "a data frame needs pandas", hint="pip install pandas") from None
        return pandas.DataFrame(list(self.rows()))

    def __repr__(self) -> str:
        subject = self.subject()
        count = sum(1 for _ in self.rows())
        return f"<{type(self).__name__}{f' of {subject}' if subject else ''}: {count} row{'s' * (count != 1)}>"

    def _repr_html_(self) -> str:
        rows = list(islice(self.rows(), _SHOWN + 1))
        shown = rows[:_SHOWN]
        head = "".join(f"<th>{escape(name)}</th>" for name in (shown[0] if shown else ()))
        body = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in shown)
        more = f"<p>The first {_SHOWN} rows; <code>to_frame()</code> has all.</p>" if len(rows) > _SHOWN else ""
        return f"<table><caption>{escape(repr(self))}</caption><tr>{head}</tr>{body}</table>{more}"


T = TypeVar("T", bound=Table)


class Results(Table, list[T]):
    """Several results of one call, as a list whose rows are those of all."""

    __slots__ = ()

    def rows(self) -> Iterator[Row]:
        """The rows of one after the other."""
        return chain.from_iterable(one.rows() for one in self)

    def subject(self) -> str:
        """What they are about, each once."""
        return ", ".join(dict.fromkeys(one.subject() for one in self))


def _cell(value: object) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
    return f'<td style="text-align:{"right" if number else "left"}">{escape(text)}</td>'
