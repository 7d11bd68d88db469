"""The options of ``gatenorm audit``: everything declared with keys, laid over the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, get_args

from gatenorm.cli.declaration import Option, Reader
from gatenorm.cli.options import audit, common, evaluation, ranking, removal, speed
from gatenorm.errors import AuditError, named

if TYPE_CHECKING:
    from gatenorm.records.audit import NotExamined

# The headings of the help, by section of the configuration.
_PANELS = {
    "evaluation": "Evaluations",
    "budgets": "Budgets and rankings",
    "rankings": "Budgets and rankings",
    "gates": "Gates and search",
    "search": "Gates and search",
    "speed": "Speed and recovery",
    "cost": "Speed and recovery",
    "recovery": "Speed and recovery",
    "run": "Execution",
}
Given = Mapping[str, Any]


def _settings(*modules: ModuleType) -> dict[str, Any]:
    """The annotations of all options with keys, by parameter."""
    settings: dict[str, Any] = {}
    for module in modules:
        for hint in vars(module).values():
            kind, *notes = get_args(hint) if hasattr(hint, "__metadata__") else (None,)
            for option in (note for note in notes if isinstance(note, Option) and note.keys):
                name = option.flags[-1].partition("/")[0].removeprefix("--").replace("-", "_")
                panel = _PANELS[option.keys[0].partition(".")[0]]
                text = option.shown or partial(_default, option.keys[0])
                for reader in (note for note in notes if isinstance(note, Reader)):
                    kind = Annotated[kind, reader]
                settings[name] = Annotated[kind | None, replace(option, panel=panel, default=None, shown=text)]
    return settings


def _default(key: str) -> str:
    """The default of a key, for help; empty where there is none."""
    from gatenorm.audit.plan.config import Config

    section, _, name = key.partition(".")
    value = getattr(getattr(Config(), section), name, None)
    if isinstance(value, (list, tuple)):
        return ",".join(f"{v:.0%}" if isinstance(v, float) else str(v) for v in value)
    return "" if value is None or isinstance(value, (bool, Mapping)) else str(value)


SETTINGS = _settings(audit, evaluation, ranking, removal, speed, common)
_DECLARED = {name: next(p for p in hint.__metadata__) for name, hint in SETTINGS.items()}


_FLAGS = {option.flags[-1].partition("/")[0] for option in _DECLARED.values() if "/" in option.flags[-1]}


def remedy(gap: NotExamined, named: Callable[[str], str]) -> str:
    """What would make an audit look at it: an option as it is given, where one sets the key, else the key."""
    if gap.setting is None:
        return gap.how
    key, name, value = gap.setting.key, named(gap.setting.key), gap.setting.value
    if name in _FLAGS:
        return f"give {name}"
    if name == key and key.startswith("gates."):  # no file has it
        return f"give --gate {key.removeprefix('gates.')}={value}"
    if name.startswith("--") and value.startswith("["):
        value = value.strip("[]").replace(", ", ",")
    return f"set {name} to {value}"


def overlay(given: Given) -> dict[str, dict[str, object]]:
    """The sections and keys that the options set, as a configuration file would hold them.

    Raises:
        AuditError: ``documents`` or ``window`` without ``data``.
    """
    given = _without_none(given)
    sections: dict[str, dict[str, object]] = {}

    def put(key: str, value: object) -> None:
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value

    for name, value in given.items():
        if name not in ("data", "documents", "window", "limit", "gate"):
            for key in _DECLARED[name].keys:
                put(key, value)
    for name, count in sorted(given.get("limit", {}).items()):  # the one for all has no name and comes first
        for key in (f"evaluation.{name}_limit",) if name else _DECLARED["limit"].keys:
            put(key, count)
    for gate, limit in given.get("gate", ()):
        put(f"gates.{gate}", limit)
    if "max_perplexity_rise" in given:
        put("search.gate", "perplexity-rise")
    if given.get("engine") == ("none",):
        put("speed.engines", [])
    if "recover_data" in given and "recover" not in given:
        put("recovery.enabled", True)
    if given.get("data"):
        put("evaluation.texts", [_text(data, given) for data in given["data"]])
        return sections
    for name in ("documents", "window"):
        if name in given:
            hint = f"give {named('data')} too, or write both into {named('config')}"
            raise AuditError("data-missing", "is about texts", field=name, hint=hint)
    return sections


def _without_none(given: Given) -> Given:
    return {name: value for name, value in given.items() if value is not None}


def _text(data: str, given: Given) -> dict[str, object]:
    """A text with its protocol; WikiText-2 has one of its own, without a separator."""
    names = ("window",) if data.startswith("wikitext2") else ("documents", "window")
    return {"data": data, **{name: given[name] for name in names if name in given}}


def namer(given: Given, config: Path | None) -> Callable[[str], str]:
    """What errors call keys of the configuration: the options that set them, else the keys of the file if there is one.

    Without a file, keys that no option set are named by the option that would.
    """
    given = _without_none(given)
    flags = {
        key: option.flags[-1].partition("/")[0]
        for name, option in reversed(_DECLARED.items())  # of several options for one key, the first names it
        if name in given or config is None
        for key in option.keys
        if key != "gates"
    }
    for name in ("max_perplexity_rise", "search"):
        if name in given:
            flags["search.gate"] = _DECLARED[name].flags[-1]
    if "max_perplexity_rise" not in given:
        flags.pop("gates.perplexity-rise", None)
    flags |= {f"gates.{gate}": f"--gate {gate}" for gate, _ in given.get("gate", ())}

    def name_of(field: str) -> str:
        key = field.partition("[")[0]
        while key and key not in flags:
            key = key.rpartition(".")[0]
        in_file = config is not None and field.partition(".")[0] in _PANELS
        return flags[key] if key else f"{config}: {field}" if in_file else field

    return name_of
