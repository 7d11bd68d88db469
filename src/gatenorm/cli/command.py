"""A subcommand: its help shows options in groups, its errors name the options that set a field."""

import textwrap
from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand, TyperGroup

from gatenorm.cli import checks
from gatenorm.cli.declaration import ARGUMENTS, EXECUTION, OTHER, OUTPUT, Option
from gatenorm.errors import fields_named

# Wide enough that most help texts take one line, narrow enough to read.
_WIDTH = 110
# Longer flags have a line of their own.
_FLAGS = 30


class Command(TyperCommand):
    """A subcommand of ``gatenorm``, whose callback is a :func:`gatenorm.cli.declaration.command`."""

    def __init__(self, *args: Any, **how: Any) -> None:
        how["context_settings"] = {**(how.get("context_settings") or {}), "max_content_width": _WIDTH}
        super().__init__(*args, **how)

    def invoke(self, ctx: Any) -> Any:
        """Run it; fields of errors get the names of the options that set them."""
        declared: Mapping[str, Option] = getattr(self.callback, "options", {})
        names: dict[str, str] = {}
        for parameter in self.params:
            option = declared.get(str(parameter.name))
            names |= dict.fromkeys((str(parameter.name), *(option.fields.split() if option else ())), _typed(parameter))
        if "config" not in names:  # by which a file may say so: its command looks at both
            checks.warn_of_conversion(ctx.params.get("device"), ctx.params.get("dtype"))
        with fields_named(names):
            checks.outputs_apart(ctx.params, declared)
            return super().invoke(ctx)

    def panels(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """What to type and what it means, by heading: first the options of the command, then what all have."""
        panels: dict[str, list[tuple[str, str]]] = {}
        declared: Mapping[str, Option] = getattr(self.callback, "options", {})
        for parameter in self.get_params(ctx):
            option = declared.get(str(parameter.name))
            row = _row(parameter, option) if option else parameter.get_help_record(ctx)
            if row:
                panels.setdefault(option.panel if option else OTHER, []).append(row)
        last = (EXECUTION, OUTPUT, OTHER)
        order = (ARGUMENTS, *(name for name in panels if name not in (ARGUMENTS, *last)), *last)
        return {heading: panels[heading] for heading in order if heading in panels}

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options under the headings of their panels."""
        for heading, rows in self.panels(ctx).items():
            with formatter.section(heading):
                _write(formatter, rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example on one line, so that it can be copied."""
        if self.epilog:
            formatter.write(f"\n{self.epilog}\n")

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The pieces of the usage line; a required argument without the braces that typer puts around it."""
        pieces = (piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx))
        return [piece.replace("......", "...") for piece in pieces]  # of several models


class Group(TyperGroup):
    """``gatenorm`` itself, whose help has the whole summary of every command."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command with its summary, which may take several lines."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            _write(formatter, [(name, " ".join((c.help or "").split())) for name, c in commands if c and not c.hidden])


def _write(formatter: Any, rows: list[tuple[str, str]]) -> None:
    """Two columns, as click writes them, but names such as gate-norm are not broken at their hyphens."""
    left, indent = max(len(flags) for flags, _ in rows if len(flags) <= _FLAGS), formatter.current_indent
    for flags, text in rows:
        lines = textwrap.wrap(text, formatter.width - indent - left - 2, break_on_hyphens=False)
        if len(flags) > left:
            lines.insert(0, "")
        for n, line in enumerate(lines or [""]):
            formatter.write(" " * indent + f"{flags if n == 0 else '':<{left}}  {line}".rstrip() + "\n")


def _row(parameter: Any, option: Option) -> tuple[str, str]:
    """What to type, and the help with its default."""
    if not option.flags:
        return option.metavar, option.text()
    flags = ", ".join(sorted(parameter.opts, key=len))
    flags += f" / {parameter.secondary_opts[0]}" if parameter.secondary_opts else ""
    return flags + ("" if parameter.is_flag else f" {option.metavar}"), option.text()


def _typed(parameter: Any) -> str:
    """What people type for a parameter: its longest flag, or the argument's placeholder."""
    return str(max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.metavar)
