"""Config keys with one entry a layer: written out in full and renumbered when layers lose their attention.

A checkpoint may leave such a list out and let transformers derive it from the layer count; after pruning the count that
transformers sees is the number of attentions, so what was implied must be written down for the layers that stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatenorm.errors import FamilyError
from gatenorm.families.family import Data, value


def keep_entries(config: Mapping[str, Any], data: Data, entries: int, keep: Sequence[int]) -> dict[str, Any]:
    """The per-layer keys of a config with only the entries ``keep`` of its ``entries`` attention layers.

    Returns:
        A mapping to merge into the config; empty where the family has no such keys.

    Raises:
        FamilyError: a list whose length is not ``entries``.
    """
    changed: dict[str, Any] = {}
    rules = list(data["per_layer"])
    if "layer_types" in config and all(rule["key"] != "layer_types" for rule in rules):
        rules.append({"key": "layer_types"})
    for rule in rules:
        key = rule["key"]
        listed = _expand(config, data, rule, entries)
        if listed is None:
            continue
        if len(listed) != entries:
            raise FamilyError(f"config.json: {key} speaks of {len(listed)} layers, expected {entries}")
        kept = [listed[i] for i in keep]
        changed[key] = [[kept, 1]] if rule.get("nested") else kept
        if rule.get("expanded") in config:
            changed[rule["expanded"]] = kept
    return changed


def _expand(config: Mapping[str, Any], data: Data, rule: Mapping[str, Any], entries: int) -> list[Any] | None:
    given = config.get(rule["key"])
    if given is not None and rule.get("nested"):
        return [kind for kinds, times in given for _ in range(times) for kind in kinds]
    if given is not None:
        return list(given)
    if "pattern" in rule or "default" in rule:
        pattern = rule.get("pattern") or rule["default"]
        return [pattern[i % len(pattern)] for i in range(entries)]
    if "from" in rule:
        first = value(config, data, rule["from"]) if value(config, data, rule["if"]) else entries
        below, above = rule["values"]
        return [above if i >= first else below for i in range(entries)]
    return None
