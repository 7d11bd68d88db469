"""The report as one HTML file without scripts that requests nothing.

Its content security policy allows styles within the page and nothing else: text that slipped through the escaping could
neither run nor load anything.
"""

import re
from importlib.resources import files

from gatenorm.errors import needing
from gatenorm.report.clean_text import clean
from gatenorm.report.figures.drawing import NARROW, POLICY, WIDE, inline, page_style
from gatenorm.report.page.blocks import Chart, Report
from gatenorm.report.page.wording import tone

# What our own texts mark as code; the text is escaped before.
_CODE = re.compile(r"`([^`]+)`")


def html(report: Report) -> str:
    """The whole report as a page.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    with needing("the report", "jinja2", "report"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup, escape

    def drawing(chart: Chart) -> Markup:
        # Vega escapes all texts of its SVG.
        return Markup(inline(chart.figure, chart.name, (NARROW,) if chart.small else (WIDE, NARROW)))

    environment = Environment(
        loader=PackageLoader("gatenorm.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) or not isinstance(value, str) else clean(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = lambda text: Markup(_CODE.sub(r"<code>\1</code>", str(escape(clean(text)))))
    environment.filters["drawing"] = drawing
    environment.filters["tone"] = tone
    style = files("gatenorm.report.page").joinpath("templates", "page.css").read_text(encoding="utf-8").strip()
    return environment.get_template("page.html").render(
        report=report, style=Markup(f"{style}\n{page_style()}"), policy=POLICY
    )
