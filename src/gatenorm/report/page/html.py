"""The report as one HTML file that asks the network for nothing.

Its policy allows the scripts that it was written with, by their hashes, and nothing else: text that slipped through
the escaping could not run. Plotly styles its drawings itself, so styles within the page are allowed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import Any

from gatenorm.errors import MissingExtraError
from gatenorm.report.figures.palette import ON_DARK
from gatenorm.report.page.blocks import Report
from gatenorm.report.page.wording import clean

# What our own texts mark as code; the text is escaped before.
_CODE = re.compile(r"`([^`]+)`")


def html(report: Report) -> str:
    """The whole report as a page.

    Raises:
        MissingExtraError: jinja2 or plotly is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup, escape
    except ImportError:
        raise MissingExtraError("the report", "jinja2", "report") from None
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingExtraError("the report", "plotly", "report") from None
    environment = Environment(
        loader=PackageLoader("gatenorm.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = lambda text: Markup(_CODE.sub(r"<code>\1</code>", str(escape(clean(text)))))
    plotly = str(get_plotlyjs()) if report.charts() else ""
    scripts = [_file("theme.js"), plotly, _file("page.js")]
    charts = {chart.name: {**chart.plot, "height": chart.height} for chart in report.charts()}
    return environment.get_template("page.html").render(
        report=report,
        # Ours and Plotly's alone: nothing of an audit is in them, and they hold no end of a script.
        theme_script=Markup(scripts[0]),
        plotly_script=Markup(plotly),
        page_script=Markup(scripts[2]),
        style=Markup(_file("page.css")),
        charts=Markup(in_script(charts)),
        on_dark=Markup(in_script(dict(ON_DARK))),
        policy=policy([script for script in scripts if script]),
    )


def policy(scripts: list[str]) -> str:
    """The page's content security policy: these scripts, styles within the page, pictures that it draws itself."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def in_script(data: Any) -> str:
    """JSON that can stand in a script element: no text in it can end the element or begin another."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _file(name: str) -> str:
    return files("gatenorm.report.page").joinpath("templates", name).read_text(encoding="utf-8").strip()
