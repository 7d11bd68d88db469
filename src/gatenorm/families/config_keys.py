"""Keys of ``config.json`` that nobody reads: neither transformers' class of the model's type does, nor gatenorm.

Other code may follow them, and then the model is another one than is read here. ``config_keys.json`` has the keys that
transformers' classes know, as a test writes them; those that say nothing of the computation (``everywhere``); and those
that say what a class does anyway (``also``: with these values, ``*`` with any).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any

from gatenorm.checkpoint import ModelConfig
from gatenorm.families.schema import Family

_MISSING = object()
# Names that tell: of tokens, of training, of the tool that wrote the file. A leading _ marks what is private to one.
# What a GGUF file calls rope.dimension_count is there as partial_rotary_factor too.
_SILENT = re.compile(
    r"^(_|unsloth|transformers|mm_|freeze_|summary_|(use_)?flash_attn)"
    r"|_token(_ids?|_index)?$|_version$|drop(out|_rate)|layerdrop|pdrop|(aux|z)_loss|\.rope\.dimension_count$"
)
# Of LLM-Drop, of releases of transformers up to 4 and of later ones, of Puzzle, and of RTP-LLM.
_STRUCTURAL = (
    *("drop_attn_list", "drop_mlp_list", "pruned_heads", "transformers_weights", "block_configs"),
    *("layer_head_num", "layer_inter_size"),
)
# By such words other tools say which parts of a model do not run, or alone do.
_GONE = {"drop", "dropped", "skip", "skipped", "prune", "pruned", "remove", "removed", "delete", "deleted", "omit"}
_GONE |= {"omitted", "disabled", "keep", "kept", "retained", "pruning", "exclude", "excluded"}
_PARTS = {"layer", "layers", "block", "blocks", "attn", "attention", "mlp", "mlps", "ffn", "head", "heads", "sublayers"}
# In the JSON of a family: among them are the keys that it reads.
_NAMES = re.compile(r'"([^"]+)"')
_NUMBERS = re.compile(r"[\d\s,;:-]+")


def unread_keys(config: ModelConfig, data: Family, model_type: str) -> tuple[str, ...]:
    """The keys of a config, and of the part that speaks of its language model, that nobody reads.

    What is empty, false or null asks for nothing. None, where transformers had no class of that type.
    """
    return tuple(dict.fromkeys(key for key, _ in _unread(_parts(config, data), data, model_type)))


def structural_key(config: ModelConfig, data: Family, model_type: str) -> tuple[str, Any] | None:
    """The first key, with its value, by which code of others leaves out parts of the model, or shapes layers unlike."""
    parts = _parts(config, data)
    named = ((key, part[key]) for part in parts for key in _STRUCTURAL if part.get(key))
    lists = ((key, value) for key, value in _unread(parts, data, model_type) if _names_parts(key, value))
    return next(chain(named, lists), None)


def _parts(config: ModelConfig, data: Family) -> list[Mapping[str, Any]]:
    own = config.get(data.tower.config) if data.tower else None
    return [config, own] if isinstance(own, Mapping) else [config]


def _unread(parts: list[Mapping[str, Any]], data: Family, model_type: str) -> Iterator[tuple[str, Any]]:
    inner, table = (data.tower.family, data.tower.named) if data.tower else (), _table()
    named = (model_type, *inner, *(part.get("model_type") for part in parts))
    types = [name for name in dict.fromkeys(map(str, named)) if name in table["families"]]
    known = {*table["everywhere"], *_NAMES.findall(json.dumps(data.to_dict()))}.union(
        *(table["families"][name] for name in types)
    )
    also = {key: value for name in types for key, value in table["also"].get(name, {}).items()}
    for key, value in (item for part in parts if types for item in part.items()):
        asks = value is not None and value is not False and value not in ("", [], {})
        if asks and key not in known and also.get(key, _MISSING) not in ("*", value) and not _SILENT.search(key):
            yield key, value


def _names_parts(key: str, value: Any) -> bool:
    words = {*re.sub(r"([a-z])([A-Z])", r"\1_\2", key).lower().split("_")}
    listed = isinstance(value, (list, Mapping)) or (isinstance(value, str) and bool(_NUMBERS.fullmatch(value)))
    return bool(listed and words & _GONE and words & _PARTS)


@cache
def _table() -> dict[str, Any]:
    text = resources.files("gatenorm.families").joinpath("config_keys.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
