"""Config keys with one entry a layer: written out in full and renumbered when layers lose their attention.

A checkpoint may leave such a list out and let transformers derive it from the layer count; after pruning the count that
transformers sees is the number of attentions, so what was implied must be written down for the layers that stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gatenorm.checkpoint import ModelConfig
from gatenorm.families.family import config_wrong, value
from gatenorm.families.schema import Family, LayerList


def keep_entries(config: ModelConfig, data: Family, entries: int, keep: Sequence[int]) -> dict[str, Any]:
    """The per-layer keys of a config with only the entries ``keep`` of its ``entries`` attention layers.

    Returns:
        A mapping to merge into the config; empty where the family has no such keys.

    Raises:
        FamilyError: a list whose length is not ``entries``, or something that is no list.
    """
    changed: dict[str, Any] = {}
    rules = list(data.per_layer)
    if "layer_types" in config and all(rule.key != "layer_types" for rule in rules):
        rules.append(LayerList(key="layer_types"))
    for rule in rules:
        listed = _expand({**config, **changed}, data, rule, entries)
        if listed is None:
            continue
        if len(listed) != entries:
            raise config_wrong(rule.key, listed, f"{entries} entries, one a layer")
        kept = [listed[i] for i in keep]
        changed[rule.key] = [[kept, 1]] if rule.nested else kept
        if rule.expanded and rule.expanded in config:
            changed[rule.expanded] = kept
    return changed


def _expand(config: ModelConfig, data: Family, rule: LayerList, entries: int) -> list[Any] | None:
    given = config.get(rule.key)
    if given is not None:
        return _listed(rule.key, given, nested=rule.nested)
    if isinstance(letters := config.get(rule.letters), str):
        if not {*letters} <= {*rule.words}:
            raise config_wrong(rule.letters, letters, f"letters of {''.join(rule.words)}")
        return [rule.words[letter] for letter in letters]
    if rule.every:
        every = value(config, data, rule.every)
        if type(every) is not int or every < 1:
            raise config_wrong(rule.every, every, "a positive whole number")
        between, each = rule.values
        first = value(config, data, rule.at) if rule.at else every - 1
        return [each if i % every == first else between for i in range(entries)]
    if rule.indices:
        given = value(config, data, rule.indices) or []
        if not isinstance(given, list):
            raise config_wrong(rule.indices, given, "a list of layers")
        others, those = rule.values
        return [those if i in given else others for i in range(entries)]
    if rule.by:
        return [rule.words.get(str(entry)) for entry in config.get(rule.by, ())]
    if rule.pattern:
        return [rule.pattern[i % len(rule.pattern)] for i in range(entries)]
    if rule.start:
        # transformers does so only where every one of these keys is set: a switch without a window does nothing.
        first = value(config, data, rule.start) if all(value(config, data, key) for key in rule.switches) else entries
        if not isinstance(first, int):
            raise config_wrong(rule.start, first, "a whole number")
        below, above = rule.values
        return [above if i >= first else below for i in range(entries)]
    return None


def _listed(key: str, given: Any, nested: bool) -> list[Any]:
    """A list as the config writes it, or spelled out: GPT-Neo writes ``[[["global", "local"], 6]]`` for 12 layers."""
    if not nested and isinstance(given, list):
        return list(given)
    if nested and isinstance(given, list) and all(map(_is_run, given)):
        return [kind for kinds, times in given for _ in range(times) for kind in kinds]
    raise config_wrong(key, given, "a list with one entry a layer")


def _is_run(item: Any) -> bool:
    pair = isinstance(item, (list, tuple)) and len(item) == 2
    # The limit keeps a hostile count from filling the memory before anyone compares it with the number of layers.
    return pair and isinstance(item[0], (list, tuple)) and type(item[1]) is int and 0 < item[1] <= 10_000
