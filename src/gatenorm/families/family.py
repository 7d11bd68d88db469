"""One architecture as data: what it calls its tensors and which shape its blocks have.

A family is a JSON file in ``families/data``; CONTRIBUTING.md says how to write one. Its keys:

``model_type``   the ``model_type`` of ``config.json`` that it describes
``like``         another family whose keys it inherits (objects are merged, everything else is replaced)
``classes``      names of the transformers classes: config, base model, causal language model
``tower``        absent, or where the language model is a part of a larger one: ``family``, which it is unless its own
                 config names another (``named`` is what a family without a causal LM of its own calls itself there),
                 ``config``, the key of that config (where it is absent, its numbers stand beside the rest), and
                 ``path`` of its base model in the whole. All other keys come from the family of the language model;
                 those that stand here as well change them
``shape``        ``sequential``, ``parallel``, ``post-norm`` or ``sandwich``: where the norms stand (for people)
``defaults``     values of ``config.json`` keys where a checkpoint leaves them out
``dimensions``   config keys (the first one present counts, before any default; a list of keys stands for their sum) or
                 numbers: layers, width, heads, kv_heads, head_dim, value_dim (head_dim if absent), context,
                 unused_layers (layers in files that transformers does not build), latent_rank
``block``        ``path`` of the block list in the causal LM; ``attention``: the submodules that go when the sublayer
                 goes; then what stays: ``before`` (modules on the residual stream), ``branch`` (the MLP's branch, added
                 to the stream; empty where MLPs are blocks of their own), ``after`` (modules on the stream),
                 ``dropout`` (config key), ``returns`` (``tensor`` or ``tuple``, what the block's forward hands back),
                 ``multiplier`` (config key of a factor on what both branches add, or by sublayer), ``by_index`` (true
                 where a block is made after its number, and lists by layer do not say how), ``mlp_returns`` (``tuple``
                 where the MLP hands back more than the stream), ``stored`` (submodules that files call otherwise, with
                 that name), ``base`` (other names of the base model in files), ``paths`` (of the block list),
                 ``by_position`` (true where the forward pass takes entries of lists by layer by a block's position
                 among all), ``in_place`` (true where a block without attention keeps its forward pass and its number:
                 it holds more than attention and MLP, or the config counts blocks as no renumbering could), ``beside``
                 (modules of the branch whose outputs are added to the last one's), ``rest`` (modules of neither
                 sublayer, which always stay)
``mixers``       absent where every layer has softmax attention; else ``kinds`` (the list by layer that says which mixer
                 a layer has, ``layer_types`` if absent) and ``attention`` (its entries for softmax attention). Layers
                 with another mixer are left alone
``roles``        submodules that hold ``q``, ``k``, ``v``, ``o``, or ``qkv`` in one, with ``fused`` (``stacked``: all
                 query rows, then key rows, then value rows; ``grouped``: for every key head its query heads, the key
                 head, the value head) and ``transposed`` (weights stored ``[in, out]``); ``sinks``: logits of a head
                 that no token answers to; ``q_gate``: true where behind the query of each head stand as many rows of a
                 gate on its output
``latent``       absent, or for multi-head latent attention ``q`` (null where queries are projected at once) and ``kv``:
                 the submodules that project down, norm and project up
``differing``    absent, or where layers differ in more than lists by layer say: ``kinds``, the list whose entry a
                 layer's config has as ``layer_type``, for which ``variants`` may ask, and ``shared``, the config key of
                 how many layers at the end read the keys and values of the last one before them of their kind
``norms``        ``kind`` (``rms``, ``layer``), ``gain_offset`` (the gain is offset + weight), ``input``, ``output``,
                 ``q``, ``k``: submodule names or null; ``v``: true where values are normed, without weights; ``plain``:
                 those of them without weights, ``turning``: true where queries and keys are normed only in layers where
                 they turn, ``multiplier``: config key of a factor on what the input norm makes
``rotary``       null, or ``theta`` and ``fraction`` (config keys) with ``default_theta``, ``default_fraction``,
                 ``default_scaling`` (rope parameters where a config has none), ``dims`` (config key of how many
                 dimensions turn), ``place`` (``end`` where those are the last of a head), ``pairs`` (``half``:
                 dimension j turns with j + dims/2; ``interleaved``: 2j with 2j + 1), and where layers differ
                 ``kinds`` (the list by layer that says how, ``layer_types`` if absent) and ``by_kind`` (by entry what
                 is different, with ``scaling`` null where ``rope_scaling`` is not meant; null where nothing turns)
``scale``        the factor on the logits: a number, or ``[key, power]`` with a config key or ``head_dim``, or a list of
                 these, whose product it is
``yarn_scale``   true where that factor is multiplied by one of YaRN's (see :attr:`Rotary.yarn_scale`)
``scale_by_layer`` absent, or ``inverse``: the factor of layer i, counted from 0, is that divided by i + 1
``softcap``      config key of the cap on the logits, or null
``per_layer``    config keys that hold one entry a layer, and how to fill them in where they are left out (``letters``:
                 from a text with a letter a layer)
``window``       null, or ``key`` (config key of how many tokens back attention looks) and ``if`` (the config key that
                 switches the window on, or null); for engines that know no windows
``mlp``          null, or ``gate``, ``up``, ``down``: modules of a dense MLP, ``down(act(gate(x)) * up(x))`` (``gate``
                 null where ``up`` holds both, or where there is none), and ``activation``, a config key
``mixture``      null, or where MLPs are mixtures of experts: ``count`` and ``active`` (config keys: how many experts
                 there are, and how many a token runs through)
``no_bound``     absent, or why heads are not bounded by their gate norms
``unlike_llama`` why exports that know only Llama's blocks cannot hold it, where nothing else here says so
``outer``        null, or ``embedding``, ``norm`` and ``head``, the modules around the blocks in the causal LM
``tokenizer``    null, or ``class`` and ``when`` (``undeclared``, ``always``): the tokenizer class that transformers
                 takes for this ``model_type``, where the checkpoint names none, or whatever it names
``gguf``         absent, or how GGUF files name it: ``architecture``, ``pruned`` (the architecture as which
                 pruned models are written), ``config`` (keys of ``config.json`` with those of
                 GGUF, less the architecture before them), ``outer`` and ``block`` (modules or tensors by their names
                 in GGUF), ``interleaved`` (modules whose rows GGUF stores in the order of interleaved rotary pairs),
                 ``rope_factors`` (a tensor of factors for the rotary waves)
``refuse``       what this release must not touch: ``when`` (config values), ``why``
``variants``     changes to all this ``when`` the config has certain values, applied in order
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from gatenorm.errors import FamilyError, did_you_mean
from gatenorm.extensions import Extension, extensions, installed, passing_over, working
from gatenorm.records import Edits

Data = Mapping[str, Any]


def _merge(base: Data, change: Data) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


@cache
def families() -> dict[str, Data]:
    """Every family by its ``model_type``, those of other packages included, inheritance resolved.

    Of larger models: with the language model that they have where their config does not say.

    Another package adds one with an entry point of the group ``gatenorm.families``, named by the ``model_type``; it
    leads to the data as a mapping.

    What another package adds must be like a packaged one in what all of these have; otherwise it is left out.
    """
    stated = _stated()
    return {
        name: _in_tower(stated[data["tower"]["family"]], data) if "tower" in data else data
        for name, data in stated.items()
        if "tower" not in data or data["tower"]["family"] in stated
    }


@cache
def _stated() -> dict[str, Data]:
    """What every family's own file and those that it is like say, by ``model_type``."""
    stated = dict(_packaged())
    for name, extension in _added().items():
        with passing_over(extension):
            stated[name] = _added_family(name)
    return dict(sorted(stated.items()))


@cache
def _packaged() -> dict[str, Data]:
    files = resources.files("gatenorm.families").joinpath("data").iterdir()
    read = (json.loads(file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".json"))
    raw: dict[str, Data] = {data["model_type"]: data for data in read}
    return {name: _resolved(name, raw) for name in raw}


def _resolved(name: str, raw: Mapping[str, Data]) -> Data:
    data = raw[name]
    return _merge(_resolved(data["like"], raw), data) if "like" in data else data


def _added() -> Mapping[str, Extension]:
    return extensions("families", kind=Mapping)


def check_added(name: str) -> None:
    """Raise GatenormError, saying why, for a family that another package adds and that was left out."""
    if name in _added():
        _added_family(name)


def of_package(name: str) -> Extension | None:
    """The extension that a family is, where another package adds it."""
    return _added().get(name) if name not in _packaged() else None


def _added_family(name: str) -> Data:
    extension, packaged = _added()[name], _packaged()
    if name in packaged:
        raise FamilyError("extension-twice", f"{extension}: {name} is a packaged family already")
    data = extension.load()
    if data.get("model_type") != name:
        raise FamilyError("extension-wrong", f"{extension} has another model_type", expected=name)
    try:
        found = _resolved(name, {**working(_added()), **packaged, name: data})
    except (KeyError, RecursionError, TypeError):
        problem = f"{extension} is like {data.get('like')!r:.80}, which is no family"
        raise FamilyError("extension-wrong", problem) from None
    towers = "tower" in found
    problem = _misfit(found, [one for one in packaged.values() if ("tower" in one) == towers])
    if problem:
        raise FamilyError("extension-wrong", f"{extension}: {problem}", hint="compare it with a packaged family")
    return found


def _misfit(data: Data, examples: Sequence[Data], place: str = "") -> str:
    """What all packaged families have, and this one has not or as another kind of thing; empty if it is like them."""
    for key in sorted(set.intersection(*map(set, examples))):
        if key not in data:
            return f"{place}{key} is missing"
        alike = [example[key] for example in examples]
        # A dimension may be a number, a key or a list of keys.
        if place != "dimensions." and _kind(data[key]) not in map(_kind, alike):
            return f"{place}{key} is {data[key]!r:.60}"
        inner = [one for one in alike if isinstance(one, Mapping)]
        if isinstance(data[key], Mapping) and (problem := _misfit(data[key], inner, f"{place}{key}.")):
            return problem
    return ""


def _kind(value: object) -> object:
    """Numbers and names may stand for each other."""
    return next((kind for kind in (Mapping, list) if isinstance(value, kind)), value is None)


def _in_tower(text: Data, whole: Data) -> Data:
    """The family of a language model that is part of a larger one: its modules lie elsewhere, the rest is the same."""

    def inside(name: str) -> str:
        _, dot, rest = name.partition(".")
        return f"{whole['tower']['path']}.{rest}" if dot else name

    moved: dict[str, Any] = {
        "block": {"path": inside(text["block"]["path"])},
        "unlike_llama": "it is part of a larger model, for which there is no place",
    }
    if text["outer"]:
        moved["outer"] = {role: inside(name) for role, name in text["outer"].items()}
    return _merge(_merge(text, moved), whole)


def family(model_type: str, config: Mapping[str, Any]) -> Data:
    """The family of that name as it applies to ``config``: defaults known, variants carried out.

    Raises:
        FamilyError: no such family, or a switch that decides between variants is neither true nor false.
    """
    if model_type not in families():
        raise FamilyError("family-unknown", f"model_type {model_type!r} is not known", hint=near_names(model_type))
    data = families()[model_type]
    if added := of_package(model_type):
        installed().described[model_type] = added
    if "tower" in data:
        tower, config = data["tower"], tower_config(data, config)
        named = config.get("model_type")
        if named not in (None, model_type, tower["family"], tower.get("named")):
            text = families().get(str(named), data)
            if "tower" in text:
                raise FamilyError("family-unknown", f"model_type {named!r:.80} of its language model is not known")
            data = _in_tower(text, _stated()[model_type])
    _check_switches(config, data)
    for variant in data.get("variants", ()):
        if matches(variant["when"], config, data):
            data = _merge(data, variant["then"])
    return data


def near_names(name: str) -> str:
    """A hint for a name that is no family: the nearest one, and where all of them stand, too many to list."""
    return (
        f"{did_you_mean(name, families()).partition('known: ')[0]}docs/families.md lists the {len(families())} families"
    )


def tower_config(data: Data, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of the language model: that of the whole, or the part of it that speaks of it.

    Raises:
        FamilyError: that part is no object.
    """
    tower = data.get("tower")
    if not tower:
        return config
    own: Any = config.get(tower["config"], config)
    if not isinstance(own, Mapping):
        raise config_wrong(tower["config"], own, "an object")
    return own


def matches(when: Data, config: Mapping[str, Any], data: Data) -> bool:
    """Whether the config, completed by the family's defaults, has for every key one of the values in ``when``.

    ``{"not": value}`` stands for every other value.
    """
    return all(_fits(value(config, data, key), wanted) for key, wanted in when.items())


def _fits(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return bool(found != wanted["not"])
    return found in (wanted if isinstance(wanted, list) else [wanted])


def _check_switches(config: Mapping[str, Any], data: Data) -> None:
    rules = [*data.get("variants", ()), *data.get("refuse", ())]
    for key in {key for rule in rules for key in rule["when"]}:
        if isinstance(data["defaults"].get(key), bool) and not isinstance(config.get(key, False), bool):
            raise config_wrong(key, config[key], "true or false")


def value(config: Mapping[str, Any], data: Data, key: str) -> Any:
    """``config[key]``, or the family's default where the checkpoint leaves it out."""
    return config[key] if key in config else data.get("defaults", {}).get(key)


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


def refusal(data: Data, config: Mapping[str, Any]) -> str | None:
    """Why a model of this config must not be pruned, or ``None``."""
    rules = data.get("refuse", ())
    return next((str(rule["why"]) for rule in rules if matches(rule["when"], config, data)), None)


def classes() -> dict[str, tuple[str, str, str]]:
    """Names of the transformers classes of every family: ``{model_type: (config, base model, causal LM)}``."""
    return {
        model_type: (data["classes"]["config"], data["classes"]["model"], data["classes"]["causal_lm"])
        for model_type, data in families().items()
    }


def counted_layers(data: Data, layers: int, edits: Edits) -> tuple[int, ...]:
    """The layers that the config of a model counts that had ``layers`` of them before these edits.

    Those that kept their attention or have another mixer; all of them where blocks stay in place.
    """
    gone = () if data["block"].get("in_place") else edits.attention
    return tuple(layer for layer in range(layers) if layer not in gone)


def mlp_modules(data: Data) -> tuple[str, ...]:
    """The submodules that go with the MLP alone: its branch, less a norm that the attention reads too.

    Falcon's parallel blocks have one norm in front of both branches: it stays as long as either of them does.
    """
    return tuple(name for name in data["block"]["branch"] if name != data["norms"]["input"])
