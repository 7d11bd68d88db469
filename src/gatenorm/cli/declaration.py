"""How an option is declared: once, as the annotation of every command parameter that takes it.

``Samples = Annotated[Count, option("--samples", help="...", default=32)]`` gives flags, help, default and panel; its
range is that of its type. A command is a function of keyword-only parameters, each named as in the Python API.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from gatenorm.errors import GatenormError

REQUIRED = inspect.Parameter.empty
ARGUMENTS, OTHER = "Arguments", "Other"


@dataclass(frozen=True)
class Reader:
    """How the text of an option becomes its value; ``read`` raises ValueError for anything but ``expected``."""

    read: Callable[[str], Any]
    expected: str


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option, or an argument where there are no flags.

    Args:
        help: what the help says; a function where that needs a list of extensions.
        panel: the heading in the help.
        default: the value without the option; the default of a command's own parameter goes before it.
        shown: what the help says in its place.
        many: it can be given several times; ``reader`` reads each.
        key: what it sets in the audit's configuration, or several with spaces between; ``gatenorm audit`` has every
            option with a key.
        fields: what errors call it besides the parameter's name.
    """

    flags: tuple[str, ...]
    help: str | Callable[[], str]
    panel: str = OTHER
    metavar: str = ""
    default: Any = None
    shown: str | Callable[[], str] = ""
    reader: Reader | None = None
    many: bool = False
    key: str = ""
    fields: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that it sets."""
        return tuple(self.key.split())

    def text(self) -> str:
        """The help with the default."""
        said = self.help if isinstance(self.help, str) else self.help()
        default = self.shown if isinstance(self.shown, str) else self.shown()
        if not default and self.default is not None and self.default is not False:
            default = ",".join(map(str, self.default)) if isinstance(self.default, tuple) else str(self.default)
        remark = "required" if self.default is REQUIRED else f"default: {default}" if default else ""
        return said + (f" [{remark}]" if remark else "")


def option(flags: str, panel: str, help: str | Callable[[], str], **how: Any) -> Option:
    """An option such as ``-o, --out DIR``; the rest as :class:`Option`."""
    *names, metavar = flags.split(" ") if " " in flags.replace(", ", ",") else [*flags.split(" "), ""]
    return Option(flags=tuple(name.rstrip(",") for name in names), metavar=metavar, panel=panel, help=help, **how)


def argument(metavar: str, help: str, default: Any = REQUIRED) -> Option:
    """A positional argument."""
    return Option(flags=(), help=help, panel=ARGUMENTS, metavar=metavar, default=default)


def command(function: Callable[..., None], more: Mapping[str, Any] | None = None) -> Callable[..., None]:
    """A function as typer runs it; its ``options`` say how each parameter is declared.

    Args:
        more: the annotations of its ``**`` keywords, by parameter; without them those of the TypedDict they unpack.
    """
    hints = get_type_hints(function, include_extras=True)
    signature = inspect.signature(function).parameters
    for name in [name for name, parameter in signature.items() if parameter.kind is inspect.Parameter.VAR_KEYWORD]:
        unpacked = hints.pop(name)
        hints |= more or get_type_hints(get_args(unpacked)[0], include_extras=True)
    hints.pop("return", None)
    parameters, options = [], {}
    for name, hint in hints.items():
        declared = next((part for part in getattr(hint, "__metadata__", ()) if isinstance(part, Option)), None)
        if declared is None:  # typer's own: its context
            parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint))
            continue
        default = signature[name].default if name in signature else REQUIRED
        options[name] = declared if default is REQUIRED else replace(declared, default=default)
        if not options[name].metavar:
            kinds = _plain(hint)[0], *get_args(_plain(hint)[0])
            metavar = "N" if int in kinds else "X" if float in kinds else "TEXT"
            options[name] = replace(options[name], metavar=metavar)
        parameters.append(_for_typer(name, hint, options[name]))

    @functools.wraps(function)
    def run(**given: Any) -> None:
        return function(**{name: _read(name, value, options.get(name)) for name, value in given.items()})

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.options = options  # type: ignore[attr-defined]
    return run


def _for_typer(name: str, hint: Any, declared: Option) -> inspect.Parameter:
    kind, limits = _plain(hint)
    if declared.reader is not None:
        kind = list[str] | None if declared.many else str | None
    how: dict[str, Any] = {"metavar": declared.metavar, **limits}
    made = typer.Option(*declared.flags, **how) if declared.flags else typer.Argument(**how)
    default = declared.default if declared.reader is None or declared.default is REQUIRED else None
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=Annotated[kind, made])


def _plain(hint: Any) -> tuple[Any, dict[str, Any]]:
    """A type without its annotations, and the range that they give it."""
    if get_origin(hint) is Annotated:
        inner, *notes = get_args(hint)
        kind, limits = _plain(inner)
        for note in notes:
            bounds = {"min": getattr(note, "ge", None), "max": getattr(note, "le", None)}
            limits |= {name: bound for name, bound in bounds.items() if bound is not None}
        return kind, limits
    if isinstance(hint, types.UnionType) or get_origin(hint) is Union:
        parts = [_plain(part) for part in get_args(hint)]
        return Union[tuple(kind for kind, _ in parts)], {k: v for _, limits in parts for k, v in limits.items()}  # noqa: UP007
    return hint, {}


def _read(name: str, value: Any, declared: Option | None) -> Any:
    if declared is None or declared.reader is None:
        return value
    if value is None:
        return declared.default
    try:
        return [declared.reader.read(text) for text in value] if declared.many else declared.reader.read(value)
    except ValueError:
        given = " ".join(value) if declared.many else value
        raise GatenormError(
            "option-value", "is not valid", field=name, given=given, expected=declared.reader.expected
        ) from None
