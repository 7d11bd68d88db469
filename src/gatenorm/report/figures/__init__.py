"""Every figure, drawn once: one Vega-Altair chart gives SVG, PNG and a page.

Raises:
    MissingExtraError: on import, where a library that draws is not installed.
"""

from importlib.util import find_spec

from gatenorm.errors import MissingExtraError

for _module, _package in (("altair", "altair"), ("vl_convert", "vl-convert-python")):
    if find_spec(_module) is None:
        raise MissingExtraError("a figure", _package, "report")
