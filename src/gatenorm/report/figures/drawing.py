"""How every figure is drawn: one Vega-Altair chart, made into SVG by vl-convert, which needs no browser.

A figure is a function of the width in pixels, so that a phone gets a drawing of its own instead of a shrunken one.
PNG and pages are made from the same SVG. A page needs no script: values are shown as tooltips of the marks.
"""

import html
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import altair as alt

from gatenorm.errors import OutputError, printable
from gatenorm.files import write_bytes, write_text
from gatenorm.report.clean_text import clean
from gatenorm.report.figures.palette import GRID, INK, LINE, MUTED, PAPER, page_colours
from gatenorm.report.figures.rendering import png_of, svg_of

Chart: TypeAlias = Any  # any of Altair's chart classes
Figure: TypeAlias = Callable[[int], Chart]
FORMATS = (".png", ".svg", ".html")
WIDE, NARROW = 800, 330
# vl-convert measures text in Liberation Sans, which it brings along; Arial and Helvetica have the same widths.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
# Attributes that only repeat the default.
_DEFAULTS = {"opacity": "1", "stroke-width": "1", "pointer-events": "none", "font-family": FONT, "text-anchor": "start"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """:root{color-scheme:light dark}
body{margin:24px;background:light-dark(#ffffff,#181d22);color:light-dark(#1b2026,#e8ecf0);font:16px/1.5 sans-serif}
h1{font-size:20px;overflow-wrap:anywhere}
@media print{:root{color-scheme:only light}}"""
_TEXT = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
_CONFIG = {
    "font": FONT,
    "background": None,
    "view": {"stroke": None},
    "axis": {
        **_TEXT,
        "titlePadding": 8,
        "domainColor": LINE,
        "tickColor": LINE,
        "gridColor": GRID,
        "labelFlush": False,
    },
    "axisXQuantitative": {"tickCount": 7},
    "legend": {**_TEXT, "labelLimit": 260, "symbolStrokeWidth": 1.8},
    "title": {"color": INK, "fontSize": 14, "fontWeight": "normal", "anchor": "start", "frame": "bounds", "offset": 12},
}


def check_format(path: Path, field: str = "plot") -> None:
    """Raise OutputError for a file name that no figure can be written to: another ending than .png, .svg or .html, or
    no such folder. ``field`` is the parameter that holds it.
    """
    if path.suffix.lower() not in FORMATS:
        expected = "a name ending in .png, .svg or .html"
        raise OutputError("plot-format-unknown", "has an unknown ending", field=field, given=path, expected=expected)
    if not path.absolute().parent.is_dir():
        hint = f"there is no folder {path.absolute().parent}"
        raise OutputError("folder-missing", "cannot be written", field=field, given=path, hint=hint)


def write_figure(path: Path, figure: Figure, title: str, field: str = "plot", note: str = "") -> None:
    """Draw into a .png, .svg or .html file, whole or not at all; the ``note`` is written below the title."""
    check_format(path, field)
    title, note = printable(title), printable(note)
    if path.suffix.lower() == ".html":
        write_text(path, _page(figure, title, note))
        return
    heading = alt.TitleParams(text=title, **({"subtitle": note, "subtitleColor": MUTED} if note else {}))
    drawing = svg(figure(WIDE).properties(title=heading), ground=PAPER)
    if path.suffix.lower() == ".svg":
        write_text(path, drawing)
    else:
        write_bytes(path, png_of(drawing))


def fitted(chart: Chart, width: int, height: int | None = None) -> Chart:
    """A chart whose whole width, axes and all, is ``width``, and whose plot is ``height`` high if that is given."""
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    return chart.properties(width=width, autosize=fit, **({} if height is None else {"height": height}))


def beside(panels: Sequence[Chart], width: int) -> Chart:
    """Charts side by side, or one below the other where they would be too narrow."""
    if width < WIDE:
        return alt.vconcat(*(panel.properties(width=width - 64) for panel in panels))
    return alt.hconcat(*(panel.properties(width=width // len(panels) - 64) for panel in panels))


def svg(chart: Chart, name: str = "", ground: str = "") -> str:
    """A chart as SVG in as few bytes as show the same; ``name`` sets its ids apart from those of other drawings."""
    specification = _cleaned(chart.to_dict(validate=False))  # tests validate all: that takes as long as drawing
    drawn = svg_of(specification, _CONFIG)
    root = ET.fromstring(drawn.replace(_NAMESPACE, "", 1))  # without it names of elements are short
    _slim(root)
    _rename_ids(root, name)
    root.set("xmlns", "http://www.w3.org/2000/svg")
    root.set("font-family", FONT)
    root.set("style", f"max-width:{float(root.attrib['width']) * 1.2:.0f}px")
    if ground:
        root.insert(0, ET.Element("rect", {"width": "100%", "height": "100%", "fill": ground}))
    return ET.tostring(root, encoding="unicode")


def inline(figure: Figure, name: str, widths: Iterable[int] = (WIDE, NARROW)) -> str:
    """A figure as part of a page with :func:`page_style`: a drawing for each width, of which the page shows one."""
    return "".join(
        f'<div class="figure {"narrow" if width == NARROW else "wide"}">{svg(figure(width), f"{name}-{width}-")}</div>'
        for width in widths
    )


def page_style() -> str:
    """The CSS that a page with figures needs."""
    return (
        ".figure svg{display:block;width:100%;height:auto}\n"
        "@media (max-width:640px){.figure.wide{display:none}}\n"
        "@media (min-width:640.01px){.figure.wide + .figure.narrow{display:none}}\n" + page_colours()
    )


def _page(figure: Figure, title: str, note: str) -> str:
    heading = html.escape(clean(title))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{heading}</title>
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}
{page_style()}</style></head>
<body><h1>{heading}</h1>
<p>{html.escape(clean(note))}</p>
{inline(figure, "figure")}
</body></html>
"""


def _cleaned(value: Any) -> Any:
    """A specification whose texts hold no control characters: a zero byte would abort the whole process."""
    if isinstance(value, dict):
        return {name: _cleaned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    return clean(value) if isinstance(value, str) else value


def _slim(element: ET.Element) -> None:
    """Drop what nobody sees, and turn each mark's description into the tooltip that browsers show."""
    label = element.attrib.pop("aria-label", "")
    for name in [n for n in element.attrib if n.startswith("aria-") or n in ("role", "class")]:
        del element.attrib[name]
    for name, default in _DEFAULTS.items():
        if element.get(name) == default:
            del element.attrib[name]
    for child in list(element):
        _slim(child)
        if _is_empty(child):
            element.remove(child)
    if label and element.tag != "g":
        ET.SubElement(element, "title").text = label


def _is_empty(element: ET.Element) -> bool:
    if element.get("opacity") == "0":  # axis labels that would overlap
        return True
    if element.tag == "g":
        return not len(element)
    return element.tag == "path" and not {"fill", "stroke"} & element.attrib.keys()


def _rename_ids(root: ET.Element, prefix: str) -> None:
    """Ids in the order in which they come: Vega's own go on counting from one drawing to the next."""
    named = {e.attrib["id"]: f"{prefix}{n}" for n, e in enumerate(e for e in root.iter() if "id" in e.attrib)}
    for element in root.iter() if named else ():
        for name, value in element.attrib.items():
            for old, new in named.items():
                if value in (old, f"url(#{old})"):
                    element.attrib[name] = value.replace(old, new)
