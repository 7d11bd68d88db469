"""A subcommand: its errors speak of the options that it has, its help shows them in groups."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from gatenorm.errors import fields_named


class Command(TyperCommand):
    """A subcommand of ``gatenorm``."""

    def invoke(self, ctx: Any) -> Any:
        """Run it; fields of errors get the names of the options that set them."""
        with fields_named({p.name: _shown(p) for p in self.params}):
            return super().invoke(ctx)


def _shown(parameter: Any) -> str:
    """What people type for a parameter: its longest flag, or the argument's placeholder."""
    if parameter.param_type_name == "argument":
        return str(parameter.make_metavar(None)) if parameter.metavar is None else str(parameter.metavar)
    return str(max(parameter.opts, key=len))
