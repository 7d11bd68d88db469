"""``gatenorm export``: write a model, pruned or dense, in the form that an engine reads."""

import typer

from gatenorm.cli import checks, console
from gatenorm.cli.options import common, export as exporting
from gatenorm.errors import OutputError, named

NAME = "export"
EXAMPLE = "Example: gatenorm export ./llama-8 --to gguf -o llama-8.gguf"


def command(
    *,
    given: typer.Context,
    model: common.Model,
    to: exporting.To,
    out: exporting.Out,
    list_: exporting.List,
    dtype: exporting.StoredType,
    family: common.Family,
    json: common.Json,
) -> None:
    """Write MODEL, pruned by gatenorm or dense, in a form that stock engines serve without a patch."""
    from gatenorm import api
    from gatenorm.cli.tables.exports import show_export, show_forms
    from gatenorm.exports.registry import known

    if list_:
        checks.leave_out(given, ("to", "out", "dtype"), f"{named('list_')} writes nothing")
        forms = api.forms(model, family)
        console.deliver(json, forms, lambda: show_forms(forms, model))
        return
    if to is None or out is None:
        code, field = ("form-missing", "to") if to is None else ("out-missing", "out")
        expected = f"{named('to')} {'|'.join(known())} {named('out')} PATH, or {named('list_')}"
        raise OutputError(code, "is missing", field=field, expected=expected)
    with console.progress_bar(f"writing {to}", "bytes") as progress:
        written = api.export(model, to, out, dtype=dtype, family=family, progress=progress)
    console.deliver(json, written, lambda: show_export(written, model))
