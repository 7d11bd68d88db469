"""``gatenorm export``: write a pruned checkpoint in the form that an engine reads."""

from __future__ import annotations

import shlex
from typing import Any

from gatenorm.cli import console
from gatenorm.cli.options import common
from gatenorm.cli.options import export as exporting
from gatenorm.errors import OutputError, named

NAME = "export"
EXAMPLE = "Example: gatenorm export ./llama-8 --to gguf -o llama-8.gguf"


def command(
    *,
    model: common.Model,
    to: exporting.To,
    out: exporting.Out,
    list_: exporting.List,
    dtype: exporting.StoredType,
    family: common.Family,
    json: common.Json,
) -> None:
    """Write MODEL, pruned by gatenorm or dense, in a form that stock engines serve without a patch."""
    from gatenorm.api import open_model
    from gatenorm.exports.registry import export_form, known
    from gatenorm.files import check_apart

    console.check_json(json)
    if list_:
        facts = describe(open_model(model, family, fetch=False))
        if json:
            console.write_json(json, facts)
        if json != "-":
            _show(facts, model)
        return
    if to is None or out is None:
        raise OutputError(
            "form-missing" if to is None else "out-missing",
            "is missing",
            field="to" if to is None else "out",
            expected=f"{named('to')} {'|'.join(known())} {named('out')} PATH, or {named('list_')}",
        )
    wanted = export_form(to)
    wanted.check_output(out)
    layout = open_model(model, family)
    if not wanted.is_file:  # a file for an engine often lies beside the weights that it was made from
        check_apart(out, layout.checkpoint.directory)
    with console.progress_bar(f"writing {to}", "bytes") as progress:
        written = wanted.write(layout, out, dtype=dtype, progress=progress)
    if json:
        console.write_json(json, {"to": to, "out": str(out), "bytes": written.nbytes, "notes": list(written.notes)})
    if json == "-":
        return
    console.say(f"{out}: {console.bytes_for_people(written.nbytes)}, for {', '.join(wanted.engines)}")
    for note in written.notes:
        console.say(f"note: {note}")
    console.say(f"Does it compute the same? gatenorm verify {shlex.quote(str(out))} --against {shlex.quote(model)}")


def describe(layout: Any) -> list[dict[str, Any]]:
    """Every form that the model could be written in, with the reasons against; JSON-ready."""
    from gatenorm.exports.registry import export_forms

    facts = []
    for target in export_forms():
        reasons = target.obstacles(layout)
        facts.append(
            {
                "to": target.name,
                "engines": list(target.engines),
                "can": not reasons,
                "why_not": reasons,
                "notes": [] if reasons else target.remarks(layout),
            }
        )
    return facts


def _show(facts: list[dict[str, Any]], model: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"what {model} can be written as"), title_justify="left")
    for column in ("form", "engines", "", "why not, or what to know"):
        table.add_column(column, overflow="fold")
    for fact in facts:
        remarks = "\n".join(fact["why_not"] or fact["notes"])
        table.add_row(fact["to"], ", ".join(fact["engines"]), "yes" if fact["can"] else "no", Text(remarks))
    console.print_table(table)
