"""What a report is made of, whatever it is written as: sections of text, tables, figures and remarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from gatenorm.report.figures.drawing import Figure

GOOD, BAD, OPEN, QUIET = "good", "bad", "open", "quiet"


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


@dataclass(frozen=True)
class Group:
    """Rows of a table that belong together, under a ``title`` where it has one."""

    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption; the first cell of each row is its header, ``name`` what links lead to."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    wide: bool = False
    name: str = ""

    @classmethod
    def of(
        cls, caption: str, columns: list[Column], rows: list[list[Cell]], wide: bool = False, name: str = ""
    ) -> Table:
        return cls(caption, tuple(columns), (Group(tuple(tuple(row) for row in rows)),), wide, name)

    @property
    def rows(self) -> tuple[tuple[Cell, ...], ...]:
        return tuple(row for group in self.groups for row in group.rows)


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Points:
    """A list of remarks."""

    kind: ClassVar[str] = "points"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Remark:
    """Something to be told: a ``title``, a line, what to do about it, and figures behind it."""

    title: str
    text: str
    todo: str = ""
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Remarks:
    """Remarks of one tone: ``warning`` or ``gap``."""

    kind: ClassVar[str] = "remarks"
    tone: str
    items: tuple[Remark, ...]
    none: str


@dataclass(frozen=True)
class Chart:
    """A chart: ``says`` is its text alternative, ``table`` holds every number that it draws.

    ``figure`` draws it for a width in pixels; ``small`` ones are as wide as a phone everywhere.
    """

    kind: ClassVar[str] = "chart"
    name: str
    title: str
    says: str
    figure: Figure
    table: Table
    small: bool = False


@dataclass(frozen=True)
class Charts:
    """Small charts side by side."""

    kind: ClassVar[str] = "charts"
    items: tuple[Chart, ...]


@dataclass(frozen=True)
class Facts:
    """Names and what they hold."""

    kind: ClassVar[str] = "facts"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Code:
    """A command, as it is typed."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that open when they are asked for; ``printed`` ones stand open on paper."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: tuple[Block, ...]
    printed: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    kind: ClassVar[str] = "heading"
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
    """A whole report: the first screen, then sections."""

    title: str
    model: str
    when: str
    verdict: tuple[str, ...]
    tone: str
    badge: str
    counts: tuple[tuple[str, str, str], ...]
    summary: tuple[Block, ...]
    sections: tuple[Section, ...] = field(default=())

    def charts(self) -> list[Chart]:
        """All charts, in order."""

        def within(blocks: tuple[Block, ...]) -> list[Chart]:
            found: list[Chart] = []
            for block in blocks:
                if isinstance(block, Chart):
                    found.append(block)
                elif isinstance(block, Charts):
                    found += block.items
                elif isinstance(block, Details):
                    found += within(block.blocks)
            return found

        return within(self.summary) + [chart for section in self.sections for chart in within(section.blocks)]
