"""The report as Markdown: the same blocks, charts as the tables behind them."""

import re

from gatenorm.report.clean_text import clean
from gatenorm.report.page.blocks import (
    Block,
    Cell,
    Chart,
    Charts,
    Code,
    Column,
    Details,
    Facts,
    Heading,
    Points,
    Remark,
    Remarks,
    Report,
    Table,
    Text,
)

# Whatever Markdown or the HTML within it could take for markup.
_MARKS = re.compile(r"([\\`*_\[\]|#~])")
_BADGES = {"good": "✔", "bad": "✘", "open": "◇", "quiet": "·"}


def markdown(report: Report) -> str:
    """The whole report as Markdown with tables in GitHub's form."""
    lines = [f"# {plain(report.title)}: {plain(report.model)}", ""]
    if report.when:
        lines += [plain(report.when), ""]
    lines += [f"**{_BADGES[report.tone]} {plain(report.badge)}**", ""]
    said = report.verdict
    lines += [f"**{plain(said.headline)}**", "", plain(said.reason), ""]
    lines += [*(f"- {plain(f'{one.aspect}: {one.text}')}" for one in said.judgements), "", plain(said.ranking), ""]
    if said.next is not None:
        lines += [f"Next: {plain(said.next.what)}", "", *_block(Code(said.next.command), 2)]
    lines += _block(report.picture, 2) if report.picture else []
    lines += ["; ".join(f"{plain(count)} {plain(what)}" for count, what, _ in report.counts), ""]
    lines += _blocks(report.summary, 2)
    for section in report.sections:
        lines += [f"## {plain(section.title)}", "", *_blocks(section.blocks, 3)]
    return "\n".join(lines).rstrip() + "\n"


def plain(text: str) -> str:
    """Text that shows as it is, on one line: names come from other people, and may hold markup."""
    one_line = " ".join(clean(text).split())
    return _MARKS.sub(r"\\\1", one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _blocks(blocks: tuple[Block, ...], level: int) -> list[str]:
    return [line for block in blocks for line in _block(block, level)]


def _block(block: Block, level: int) -> list[str]:
    heading = "#" * min(level, 6)
    match block:
        case Text(text):  # our own, which marks code by backticks and holds no names
            return [plain(text).replace("\\`", "`"), ""]
        case Heading(text):
            return [f"{heading} {plain(text)}", ""]
        case Points(items):
            return [*(f"- {plain(item)}" for item in items), ""]
        case Table():
            return _table(block)
        case Chart():
            return [f"{heading} {plain(block.title)}", "", plain(block.says), "", *_table(block.table)]
        case Charts(items):
            return _blocks(items, level)
        case Remarks():
            return [*map(_remark, block.items), ""] if block.items else [plain(block.none), ""]
        case Facts(items):
            return [*(f"- {plain(name)}: {plain(value)}" for name, value in items), ""]
        case Code(text):  # indented, since a command could hold any fence
            return [*(f"    {line}" for line in clean(text).splitlines()), ""]
        case Details(summary, blocks):
            return [f"{heading} {plain(summary)}", "", *_blocks(blocks, level + 1)]


def _table(table: Table) -> list[str]:
    return [
        f"**{plain(table.caption)}**",
        "",
        f"| {' | '.join(map(_title, table.columns))} |",
        f"|{'|'.join('---:' if column.number else '---' for column in table.columns)}|",
        *(f"| {' | '.join(map(_cell, row))} |" for row in table.rows),
        "",
    ]


def _title(column: Column) -> str:
    return plain(f"{column.title}, {column.unit}" if column.unit else column.title)


def _cell(cell: Cell) -> str:
    parts = [f"{_BADGES[cell.badge]} {plain(cell.text)}" if cell.badge else plain(cell.text)]
    parts += [f"**[{plain(tag)}]**" for tag in cell.tags]
    parts += [f"({plain(cell.note)})"] if cell.note else []
    return " ".join(parts)


def _remark(remark: Remark) -> str:
    # Paragraphs on a page; on one line the first needs its full stop.
    end = "" if not remark.todo or remark.text.endswith((".", "!", "?")) else "."
    todo = f" To examine it: {plain(remark.todo)}" if remark.todo else ""
    return f"- **{plain(remark.title)}**: {plain(remark.text)}{end}{todo}"
