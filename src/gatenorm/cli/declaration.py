"""How an option is declared: once, as the annotation of every command parameter that takes it.

``Samples = Annotated[Count, calibration("--samples", "Number of windows", 32)]`` gives flags, help, default and, by
``calibration = panel("Calibration")``, the heading; its type gives the range, or how its text is read. A command is a
function of keyword-only parameters, each named as in the Python API; a ``TypedDict`` groups those that several take.
"""

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from gatenorm.errors import GatenormError

REQUIRED = inspect.Parameter.empty
ARGUMENTS, INPUT, OUTPUT, EXECUTION, OTHER = "Arguments", "Input", "Output", "Execution", "Other"


@dataclass(frozen=True)
class Reader:
    """How the text of an option becomes its value, as a note on its type.

    ``read`` raises ValueError for anything but ``expected``.
    """

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
        key: what it sets in the audit's configuration, or several with spaces between; ``gatenorm audit`` has every
            option with a key.
        fields: what errors call it besides the parameter's name.
        check: called with the value and the parameter's name before the command runs.
    """

    flags: tuple[str, ...]
    help: str | Callable[[], str]
    panel: str = OTHER
    metavar: str = ""
    default: Any = None
    shown: str | Callable[[], str] = ""
    key: str = ""
    fields: str = ""
    check: Callable[[Any, str], None] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that it sets."""
        return tuple(self.key.split())

    @property
    def writes(self) -> bool:
        """Whether its value is a place to write to."""
        return self.panel == OUTPUT and self.metavar in ("FILE", "DIR", "PATH")

    @property
    def meaning(self) -> str:
        """What its value is, as the help has it: of an argument, whose placeholder is its name, in a few words."""
        said = self.help if isinstance(self.help, str) else self.help()
        return self.metavar if self.flags else said[:1].lower() + said[1:]

    def text(self) -> str:
        """The help with the default."""
        said = self.help if isinstance(self.help, str) else self.help()
        default = self.shown if isinstance(self.shown, str) else self.shown()
        if not default and self.default is not None and self.default is not False:
            default = ",".join(map(str, self.default)) if isinstance(self.default, tuple) else str(self.default)
        remark = "required" if self.default is REQUIRED else f"default: {default}" if default else ""
        return said + (f" [{remark}]" if remark else "")


def panel(heading: str) -> Callable[..., Option]:
    """What declares the options under a heading."""
    return functools.partial(_option, heading)


def _option(panel: str, flags: str, help: str | Callable[[], str], default: Any = None, **how: Any) -> Option:
    *names, metavar = flags.split(" ") if " " in flags.replace(", ", ",") else [*flags.split(" "), ""]
    flags_alone = tuple(name.rstrip(",") for name in names)
    return Option(flags=flags_alone, metavar=metavar, panel=panel, help=help, default=default, **how)


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
    parameters, options, readers = [], {}, {}
    for name, hint in hints.items():
        kind, notes = _plain(hint)
        declared = next((note for note in notes if isinstance(note, Option)), None)
        if declared is None:  # typer's own: its context
            parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint))
            continue
        default = signature[name].default if name in signature else REQUIRED
        declared = declared if default is REQUIRED else replace(declared, default=default)
        if not declared.metavar:
            kinds = kind, *get_args(kind)
            declared = replace(declared, metavar="N" if int in kinds else "X" if float in kinds else "TEXT")
        options[name] = declared
        readers[name] = next((note for note in notes if isinstance(note, Reader)), _reader(kind, notes))
        parameters.append(_for_typer(name, kind, readers[name], declared))

    @functools.wraps(function)
    def run(**given: Any) -> None:
        values = {name: _read(name, value, options.get(name), readers.get(name)) for name, value in given.items()}
        for name, value in values.items():
            check = options[name].check if name in options else None
            if check is not None and value is not None:
                check(value, name)
            if name in options and "" in (value if isinstance(value, list) else (value,)):
                raise GatenormError("option-empty", "is empty", field=name, given="", expected=options[name].meaning)
        return function(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.options = options  # type: ignore[attr-defined]
    return run


def _for_typer(name: str, kind: Any, reader: Reader | None, declared: Option) -> inspect.Parameter:
    default = declared.default
    if reader is not None:
        kind = list[str] | None if get_origin(_without_none(kind)) is list else str | None
        default = default if default is REQUIRED else None
    metavar = declared.metavar
    made = typer.Option(*declared.flags, metavar=metavar) if declared.flags else typer.Argument(metavar=metavar)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, made])


def _path(text: str) -> Path:
    if not text:  # which pathlib takes for the working directory
        raise ValueError
    return Path(text)


def _reader(kind: Any, notes: list[Any]) -> Reader | None:
    """How a path or a number is read, this by the range among the notes on its type; ``None`` for other types."""
    if Path in (kind, *get_args(kind)):
        return Reader(_path, "a path")
    number = next((one for one in (int, float) if one in (kind, *get_args(kind))), None)
    if number is None:
        return None
    least, most = (
        next((bound for note in notes if (bound := getattr(note, of, None)) is not None), None) for of in ("ge", "le")
    )
    span = "" if least is None else f" from {least:g}" + (f" to {most}" if most is not None else "")

    def read(text: str) -> int | float:
        value = number(text)
        # What is no number at all compares with none; without a range that is for whoever uses it to judge.
        if (least is not None and not value >= least) or (most is not None and not value <= most):
            raise ValueError
        return value

    return Reader(read, f"a {'whole ' if number is int else ''}number{span}")


def _plain(hint: Any) -> tuple[Any, list[Any]]:
    """A type without its annotations, and these."""
    if get_origin(hint) is Annotated:
        inner, *notes = get_args(hint)
        kind, more = _plain(inner)
        return kind, [*notes, *more]
    if isinstance(hint, types.UnionType) or get_origin(hint) is Union:
        parts = [_plain(part) for part in get_args(hint)]
        return Union[tuple(kind for kind, _ in parts)], [note for _, notes in parts for note in notes]  # noqa: UP007
    if get_origin(hint) is list:
        kind, notes = _plain(get_args(hint)[0])
        return list[kind], notes  # type: ignore[valid-type]
    return hint, []


def _without_none(kind: Any) -> Any:
    return next((part for part in get_args(kind) if part is not types.NoneType), kind)


def _read(name: str, value: Any, declared: Option | None, reader: Reader | None) -> Any:
    if declared is None or reader is None:
        return value
    if value is None:
        return declared.default
    try:
        return reader.read(value) if isinstance(value, str) else [reader.read(text) for text in value]
    except ValueError:
        given = value if isinstance(value, str) else " ".join(value)
        raise GatenormError("option-value", "is not valid", field=name, given=given, expected=reader.expected) from None
