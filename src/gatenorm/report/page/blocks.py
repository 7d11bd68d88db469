"""What a report consists of, in whichever format: sections of text, tables, figures and remarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from gatenorm.records.audit import Verdict

if TYPE_CHECKING:  # words and outcomes must not need the packages that draw
    from gatenorm.report.figures.drawing import Figure

GOOD, BAD, OPEN, QUIET = "good", "bad", "open", "quiet"


class _Block:
    @property
    def kind(self) -> str:
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Cell:
    """A table's cell: ``text``, a smaller ``note`` below it, ``tags`` that mark it, and a ``badge`` for outcomes.

    ``badge`` is one of ``good``, ``bad``, ``open``, ``quiet``: each has a shape and a colour, and the text says the
    same.
    """

    text: str
    note: str = ""
    badge: str = ""
    tags: tuple[str, ...] = ()
    link: str = ""


@dataclass(frozen=True)
class Column:
    """A column's title, its unit, and whether it holds numbers."""

    title: str
    unit: str = ""
    number: bool = False


def numeric(title: str, unit: str = "") -> Column:
    """A column of numbers."""
    return Column(title, unit, number=True)


Row: TypeAlias = dict[Column | str, Cell | str]


@dataclass(frozen=True)
class Table(_Block):
    """A table with a caption; the first cell of each row is its header, ``name`` what links lead to."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    wide: bool = False
    name: str = ""

    @classmethod
    def of(
        cls,
        caption: str,
        columns: Iterable[Column | str],
        rows: Iterable[Iterable[Cell | str]],
        wide: bool = False,
        name: str = "",
    ) -> Table:
        """A table whose plain columns and cells are given as text."""
        return cls(
            caption,
            tuple(Column(column) if isinstance(column, str) else column for column in columns),
            tuple(tuple(Cell(cell) if isinstance(cell, str) else cell for cell in row) for row in rows),
            wide,
            name,
        )

    @classmethod
    def of_rows(
        cls, caption: str, rows: Sequence[Mapping[Column | str, Cell | str]], wide: bool = False, name: str = ""
    ) -> Table:
        """A table whose rows hold their cells by column; all have the same columns."""
        return cls.of(caption, rows[0] if rows else (), (row.values() for row in rows), wide, name)


@dataclass(frozen=True)
class Text(_Block):
    """A paragraph."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Points(_Block):
    """A list of remarks."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Remark:
    """A ``title``, a sentence, what to do about it, and the figures behind it."""

    title: str
    text: str
    todo: str = ""
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Remarks(_Block):
    """Remarks of one tone: ``warning`` or ``gap``."""

    tone: str
    items: tuple[Remark, ...]
    none: str


@dataclass(frozen=True)
class Chart(_Block):
    """A chart: ``says`` is its text alternative, ``table`` holds every number that it draws.

    ``figure`` draws it for a width in pixels; ``small`` ones are as wide as a phone everywhere.
    """

    name: str
    title: str
    says: str
    figure: Figure
    table: Table
    small: bool = False


@dataclass(frozen=True)
class Charts(_Block):
    """Small charts side by side."""

    items: tuple[Chart, ...]


@dataclass(frozen=True)
class Facts(_Block):
    """Names and values."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Code(_Block):
    """A command to copy."""

    text: str


@dataclass(frozen=True)
class Details(_Block):
    """Blocks that open on demand; ``printed`` ones are open on paper."""

    summary: str
    blocks: tuple[Block, ...]
    printed: bool = False


@dataclass(frozen=True)
class Heading(_Block):
    """A heading within a section."""

    text: str


Block: TypeAlias = Table | Text | Points | Remarks | Chart | Charts | Facts | Code | Details | Heading


@dataclass(frozen=True)
class Section:
    """A part of the report with a heading."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """A whole report: the first screen, then sections.

    ``grounds`` says for each aspect of the verdict what of the page it rests on, and the anchor of that.
    """

    title: str
    model: str
    when: str
    verdict: Verdict
    tone: str
    badge: str
    picture: Chart | None
    unexamined: str
    counts: tuple[tuple[str, str, str], ...]
    summary: tuple[Block, ...]
    grounds: Mapping[str, tuple[str, str]]
    sections: tuple[Section, ...] = ()
