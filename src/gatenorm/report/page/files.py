"""Writing a report: a page and a Markdown file, each whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from gatenorm.errors import OutputError
from gatenorm.records.audit import Audit
from gatenorm.report.page.content import report
from gatenorm.report.page.html import html
from gatenorm.report.page.markdown import markdown

PAGE, TEXT = "report.html", "report.md"


def write_report(audit: Audit, directory: Path) -> Path:
    """Write ``report.html`` and ``report.md`` of an audit into ``directory``, which is made where it is not there.

    The page is one file of about 5 MB (4.8 of them are Plotly) that asks the network for nothing.

    Returns:
        The page's path.

    Raises:
        OutputError: a file cannot be written.
        MissingExtraError: plotly or jinja2 is not installed.
    """
    content = report(audit)
    written = {TEXT: markdown(content), PAGE: html(content)}
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{directory} could not be made: {error.strerror}") from None
    for name, text in written.items():
        _write_whole(directory / name, text)
    return directory / PAGE


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(f"{path} could not be written: {error.strerror}") from None
