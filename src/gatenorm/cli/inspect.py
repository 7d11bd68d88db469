"""``gatenorm inspect``: what was detected of a model."""

from contextlib import nullcontext

from gatenorm.cli import console
from gatenorm.cli.options import common, removal

NAME = "inspect"
EXAMPLE = "Example: gatenorm inspect ./llama --machine rtx-4090"


def command(
    *,
    model: common.Model,
    machine: removal.Machine,
    context: removal.Context,
    batch: removal.Batch,
    family: common.Family,
    json: common.Json,
) -> None:
    """Show what was detected of MODEL: family, block shape, heads, attention weights, exports, predicted speed-ups."""
    from gatenorm import api
    from gatenorm.cli.tables.inspection import show

    with console.progress_bar("measuring this machine") if machine == "this" else nullcontext():
        inspection = api.inspect(model, family=family, machine=machine, context=context, batch=batch)
    console.deliver(json, inspection, lambda: show(inspection))
