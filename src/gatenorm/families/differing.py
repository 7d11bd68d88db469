"""Layers that differ from each other in more than lists by layer say: in their heads, and in whose keys they read."""

from collections.abc import Mapping
from typing import Any

from gatenorm.checkpoint import ModelConfig
from gatenorm.errors import FamilyError
from gatenorm.families.family import config_wrong, value
from gatenorm.families.per_layer import keep_entries
from gatenorm.families.schema import Family


def layer_configs(config: ModelConfig, data: Family, layers: int) -> list[dict[str, Any]]:
    """The config as it applies to each layer, where the family says that they differ; else none.

    It has the layer's entry of the list ``kinds`` as ``layer_type``, and what transformers keeps of it under
    ``per_layer_config``, which counts before all else.

    Raises:
        FamilyError: ``per_layer_config`` is no object of objects.
    """
    rule = data.differing
    if rule is None:
        return []
    kinds = keep_entries(config, data, layers, range(layers))[rule.kinds]
    given = config.get("per_layer_config") or {}
    if not isinstance(given, Mapping) or not all(isinstance(one, Mapping) for one in given.values()):
        raise config_wrong("per_layer_config", given, "an object with one for every layer that differs")
    return [{**config, "layer_type": kind, **given.get(str(layer), {})} for layer, kind in enumerate(kinds)]


def key_sources(config: ModelConfig, data: Family, layers: int) -> dict[int, int]:
    """The layers that have no keys and values of their own, with those whose keys and values they read.

    The last so many layers, as the config key ``shared`` counts, read those of the last layer before them of their
    kind.

    Raises:
        FamilyError: a number that leaves no layer, or kinds of which no layer makes keys and values.
    """
    rule = data.differing
    if rule is None:
        return {}
    shared = value(config, data, rule.shared) or 0
    if not shared:
        return {}
    if type(shared) is not int or not 0 < shared < layers:
        raise config_wrong(rule.shared, shared, f"a number from 0 to {layers - 1}")
    kinds = keep_entries(config, data, layers, range(layers))[rule.kinds]
    own = {kind: layer for layer, kind in enumerate(kinds[: layers - shared])}
    lacking = [kind for kind in kinds[layers - shared :] if kind not in own]
    if lacking:
        raise FamilyError("config-wrong", f"config.json: no layer of kind {lacking[0]!r:.40} has keys of its own")
    return {layer: own[kinds[layer]] for layer in range(layers - shared, layers)}
