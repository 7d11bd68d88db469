"""The report as Markdown: the same blocks, charts as the tables behind them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from gatenorm.report.clean_text import clean
from gatenorm.report.page.blocks import Block, Cell, Chart, Charts, Code, Column, Details, Facts, Remarks, Report, Table

# Whatever Markdown or the HTML within it could take for a mark.
_MARKS = re.compile(r"([\\`*_\[\]|#~])")
_BADGES = {"good": "✔", "bad": "✘", "open": "◇", "quiet": "·"}


def markdown(report: Report) -> str:
    """The whole report as Markdown with tables in GitHub's form."""
    lines = [f"# {plain(report.title)}: {plain(report.model)}", ""]
    if report.when:
        lines += [plain(report.when), ""]
    lines += [f"**{_BADGES[report.tone]} {plain(report.badge)}**", ""]
    lines += [*(plain(sentence) for sentence in report.verdict), ""]
    lines += ["; ".join(f"{plain(count)} {plain(what)}" for count, what, _ in report.counts), ""]
    lines += _blocks(report.summary, 2)
    for section in report.sections:
        lines += [f"## {plain(section.title)}", "", *_blocks(section.blocks, 3)]
    return "\n".join(lines).rstrip() + "\n"


def plain(text: str) -> str:
    """Text that shows as it is, on one line: names are other people's, and may hold marks or tags."""
    one_line = " ".join(clean(text).split())
    return _MARKS.sub(r"\\\1", one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _blocks(blocks: tuple[Block, ...], level: int) -> list[str]:
    return [line for block in blocks for line in _WRITERS[block.kind](block, level)]


def _text(block: Any, _: int) -> list[str]:
    # Our own texts mark code by backticks; they hold no names.
    return [re.sub(r"\\`", "`", plain(block.text)), ""]


def _heading(block: Any, level: int) -> list[str]:
    return [f"{'#' * level} {plain(block.text)}", ""]


def _points(block: Any, _: int) -> list[str]:
    return [*(f"- {plain(item)}" for item in block.items), ""]


def _table(block: Table, _: int) -> list[str]:
    lines = [f"**{plain(block.caption)}**", ""]
    for group in block.groups:
        if group.title:
            lines += [f"*{plain(group.title)}*", ""]
        lines.append(f"| {' | '.join(_title(column) for column in block.columns)} |")
        lines.append(f"|{'|'.join('---:' if column.number else '---' for column in block.columns)}|")
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in group.rows]
        lines.append("")
    return lines


def _title(column: Column) -> str:
    return plain(f"{column.title}, {column.unit}" if column.unit else column.title)


def _cell(cell: Cell) -> str:
    parts = [f"{_BADGES[cell.badge]} {plain(cell.text)}" if cell.badge else plain(cell.text)]
    parts += [f"**[{plain(tag)}]**" for tag in cell.tags]
    parts += [f"({plain(cell.note)})"] if cell.note else []
    return " ".join(parts)


def _chart(block: Chart, level: int) -> list[str]:
    return [f"{'#' * level} {plain(block.title)}", "", plain(block.says), "", *_table(block.table, level)]


def _charts(block: Charts, level: int) -> list[str]:
    return [line for chart in block.items for line in _chart(chart, level)]


def _remarks(block: Remarks, _: int) -> list[str]:
    if not block.items:
        return [plain(block.none), ""]
    lines = []
    for item in block.items:
        # On a page these are paragraphs; on one line the first needs its end.
        end = "" if not item.todo or item.text.endswith((".", "!", "?")) else "."
        todo = f" To examine it: {plain(item.todo)}" if item.todo else ""
        lines.append(f"- **{plain(item.title)}**: {plain(item.text)}{end}{todo}")
    return [*lines, ""]


def _facts(block: Facts, _: int) -> list[str]:
    return [*(f"- {plain(name)}: {plain(value)}" for name, value in block.items), ""]


def _code(block: Code, _: int) -> list[str]:
    # Indented, since no fence is longer than any run of backticks that a command could hold.
    return [*(f"    {line}" for line in clean(block.text).splitlines()), ""]


def _details(block: Details, level: int) -> list[str]:
    return [f"{'#' * min(level, 6)} {plain(block.summary)}", "", *_blocks(block.blocks, level + 1)]


_WRITERS: dict[str, Callable[[Any, int], list[str]]] = {
    "text": _text,
    "heading": _heading,
    "points": _points,
    "table": _table,
    "chart": _chart,
    "charts": _charts,
    "remarks": _remarks,
    "facts": _facts,
    "code": _code,
    "details": _details,
}
