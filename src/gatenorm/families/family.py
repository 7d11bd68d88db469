"""Every family that is known, and one of them as it applies to a config."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from gatenorm.checkpoint import ModelConfig
from gatenorm.errors import FamilyError, RecordError, did_you_mean
from gatenorm.extensions import Extension, describes, extensions, passing_over, working
from gatenorm.families.schema import Family, Refusal, Tower, Variant
from gatenorm.records import Edits, from_json

T = TypeVar("T")
# What a file says, or changes: a part of a family.
_Part = Mapping[str, Any]


def _merge(base: _Part, change: _Part) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


@cache
def families() -> dict[str, Family]:
    """Every family by its ``model_type``, those of other packages included, inheritance resolved.

    Of larger models: with the language model that they have where their config does not say.

    Another package adds one with an entry point of the group ``gatenorm.families``, named by the ``model_type``; it
    leads to the data as a mapping. One that is no family is left out.
    """
    known = {name: _read(name) for name in _packaged()}
    for name, extension in _added().items():
        with passing_over(extension):
            known[name] = _added_family(name)
    return dict(sorted(known.items()))


@cache
def _packaged() -> dict[str, _Part]:
    """What each packaged file says, by ``model_type``."""
    files = resources.files("gatenorm.families").joinpath("data").iterdir()
    read = (json.loads(file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".json"))
    return {data["model_type"]: data for data in read}


@cache
def _stated() -> dict[str, _Part]:
    """The same with what other packages say."""
    return {**working(_added()), **_packaged()}


def _inherited(name: str) -> _Part:
    """What a family's own file and those that it is like say."""
    data = _stated()[name]
    return _merge(_inherited(data["like"]), data) if "like" in data else data


def _read(name: str, text: str = "") -> Family:
    """The family of that name.

    Args:
        text: of a larger model, the family of its language model, where that is not the one that it says.

    Raises:
        FamilyError: it is no family, or its language model is none.
    """
    data = _inherited(name)
    return _in_tower(text, data) if "tower" in data else _checked(Family, data, name)


def _checked(kind: type[T], data: Any, name: str) -> T:
    try:
        return from_json(kind, data, f"the family {name}", hint="compare it with a packaged one")
    except RecordError as error:
        raise _wrong(name, str(error)) from None


def _wrong(name: str, problem: str) -> FamilyError:
    return FamilyError("extension-wrong", f"{of_package(name) or name}: {problem}")


def _in_tower(text: str, whole: _Part) -> Family:
    """The family of a language model that is part of a larger one: its modules lie elsewhere, the rest is the same."""
    name = whole["model_type"]
    tower = _checked(Tower, whole["tower"], name)
    text = text or tower.family
    if text not in _stated() or "tower" in _inherited(text):
        raise _wrong(name, f"its language model is {text!r:.80}, which is no family of one")
    alone = _read(text)

    def inside(module: str) -> str:
        _, dot, rest = module.partition(".")
        return f"{tower.path}.{rest}" if dot else module

    moved: dict[str, Any] = {
        "block": {"path": inside(alone.block.path)},
        "unlike_llama": "it is part of a multimodal model, which this format cannot hold",
    }
    if alone.outer:
        moved["outer"] = {role: inside(module) for role, module in alone.outer.to_dict().items()}
    return _checked(Family, _merge(_merge(alone.to_dict(), moved), whole), name)


def _added() -> Mapping[str, Extension]:
    return extensions("families", kind=Mapping)


def check_added(name: str) -> None:
    """Raise GatenormError, saying why, for a family that another package adds and that was left out."""
    if name in _added():
        _added_family(name)


def of_package(name: str) -> Extension | None:
    """The extension that a family is, where another package adds it."""
    return _added().get(name) if name not in _packaged() else None


def _added_family(name: str) -> Family:
    extension = _added()[name]
    if name in _packaged():
        raise FamilyError("extension-twice", f"{extension}: {name} is a packaged family already")
    data = extension.load()
    if data.get("model_type") != name:
        raise FamilyError("extension-wrong", f"{extension} has another model_type", expected=name)
    try:
        return _read(name)
    except (KeyError, RecursionError, TypeError):
        raise _wrong(name, f"it is like {data.get('like')!r:.80}, which is no family") from None


def family(model_type: str, config: ModelConfig) -> Family:
    """The family of that name as it applies to ``config``: defaults known, variants carried out.

    Raises:
        FamilyError: no such family, or a switch that decides between variants is neither true nor false.
    """
    if model_type not in families():
        raise FamilyError("family-unknown", f"model_type {model_type!r} is not known", hint=near_names(model_type))
    data = families()[model_type]
    if added := of_package(model_type):
        describes(added)
    if data.tower:
        config = tower_config(data, config)
        named = config.get("model_type")
        if named not in (None, model_type, data.tower.family, data.tower.named):
            if str(named) not in families() or families()[str(named)].tower:
                raise FamilyError("family-unknown", f"model_type {named!r:.80} of its language model is not known")
            data = _read(model_type, str(named))
    _check_switches(config, data)
    for variant in data.variants:
        if matches(variant.when, config, data):
            data = _checked(Family, _merge(data.to_dict(), variant.then), model_type)
    return data


def near_names(name: str) -> str:
    """A hint for a name that is no family: the nearest one, and where all of them stand, too many to list."""
    return (
        f"{did_you_mean(name, families()).partition('known: ')[0]}docs/families.md lists the {len(families())} families"
    )


def tower_config(data: Family, config: ModelConfig) -> ModelConfig:
    """The config of the language model: that of the whole, or the part of it that speaks of it.

    Raises:
        FamilyError: that part is no object.
    """
    if not data.tower:
        return config
    own: Any = config.get(data.tower.config, config)
    if not isinstance(own, Mapping):
        raise config_wrong(data.tower.config, own, "an object")
    return own


def matches(when: Mapping[str, Any], config: ModelConfig, data: Family) -> bool:
    """Whether the config, completed by the family's defaults, has for every key one of the values in ``when``.

    ``{"not": value}`` stands for every other value.
    """
    return all(_fits(value(config, data, key), wanted) for key, wanted in when.items())


def _fits(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return bool(found != wanted["not"])
    return found in (wanted if isinstance(wanted, list) else [wanted])


def _check_switches(config: ModelConfig, data: Family) -> None:
    rules: list[Variant | Refusal] = [*data.variants, *data.refuse]
    for key in {key for rule in rules for key in rule.when}:
        if isinstance(data.defaults.get(key), bool) and not isinstance(config.get(key, False), bool):
            raise config_wrong(key, config[key], "true or false")


def value(config: ModelConfig, data: Family, key: str) -> Any:
    """``config[key]``, or the family's default where the checkpoint leaves it out."""
    return config[key] if key in config else data.defaults.get(key)


def config_wrong(key: str, given: object, expected: str) -> FamilyError:
    """The error for a value in ``config.json`` that cannot be what it is."""
    return FamilyError("config-wrong", f"config.json: {key} is {given!r:.60}", expected=expected)


def positive(key: str, given: Any) -> float:
    """``given`` as a float, where it is a positive finite number.

    Raises:
        FamilyError: it is something else.
    """
    if isinstance(given, (int, float)) and not isinstance(given, bool) and 0 < given < math.inf and given < 2**63:
        return float(given)
    raise config_wrong(key, given, "a positive number")


def refusal(data: Family, config: ModelConfig) -> str | None:
    """Why a model of this config must not be pruned, or ``None``."""
    return next((rule.why for rule in data.refuse if matches(rule.when, config, data)), None)


def counted_layers(data: Family, layers: int, edits: Edits) -> tuple[int, ...]:
    """The layers that the config of a model counts that had ``layers`` of them before these edits.

    Those that kept their attention or have another mixer; all of them where blocks stay in place.
    """
    gone = () if data.block.in_place else edits.attention
    return tuple(layer for layer in range(layers) if layer not in gone)


def mlp_modules(data: Family) -> tuple[str, ...]:
    """The submodules that go with the MLP alone: its branch, less a norm that the attention reads too.

    Falcon's parallel blocks have one norm in front of both branches: it stays as long as either of them does.
    """
    return tuple(name for name in data.block.branch if name != data.norms.input)
