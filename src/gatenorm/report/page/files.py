"""Writing a report: a page and a Markdown file, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from gatenorm.files import write_text
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
    for name, text in written.items():
        write_text(directory / name, text, parents=True)
    return directory / PAGE
