"""The audit's report: one record as a page for browsers and as Markdown, both views of the same content."""

from gatenorm.report.page.files import write_report

__all__ = ["write_report"]
