"""The audit's report: one record as a page for browsers and as Markdown, both views of the same content."""

from pathlib import Path

from gatenorm.files import write_text
from gatenorm.records.audit import Audit

PAGE, TEXT = "report.html", "report.md"


def write_report(audit: Audit, directory: Path) -> Path:
    """Write ``report.html`` and ``report.md`` of an audit into ``directory``, which is created if need be.

    The page is one file of less than 1 MB that has no scripts and requests nothing.

    Returns:
        The page's path.

    Raises:
        OutputError: a file cannot be written.
        MissingExtraError: altair, vl-convert or jinja2 is not installed.
    """
    from gatenorm.report.page.content import report
    from gatenorm.report.page.html import html
    from gatenorm.report.page.markdown import markdown

    content = report(audit)
    written = {TEXT: markdown(content), PAGE: html(content)}
    for name, text in written.items():
        write_text(directory / name, text, parents=True)
    return directory / PAGE
