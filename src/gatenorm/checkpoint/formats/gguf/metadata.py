"""What a GGUF file says of the language model in it, after a look at whether that can be one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatenorm.checkpoint.formats.gguf.header import read_header
from gatenorm.errors import CheckpointError

MOST_LAYERS = 512
_HEADS, _KV_HEADS = "attention.head_count", "attention.head_count_kv"
# The largest numbers that a model's keys may have; beyond some of them llama.cpp ends the process.
_NUMBERS = {
    "block_count": MOST_LAYERS,
    "context_length": 1 << 30,
    "embedding_length": 1 << 20,
    "feed_forward_length": 1 << 24,
    _HEADS: 1 << 14,
    _KV_HEADS: 1 << 14,
    "attention.key_length": 1 << 16,
    "attention.value_length": 1 << 16,
    "rope.dimension_count": 1 << 16,
}
_BY_LAYER = ("feed_forward_length", _HEADS, _KV_HEADS)
_OPTIONAL = (_KV_HEADS, "attention.key_length", "attention.value_length", "rope.dimension_count")


def read_model(path: Path) -> Mapping[str, Any]:
    """The keys of a file with their values; those that describe a language model can be relied on.

    Raises:
        CheckpointError: it is no whole GGUF file, or a key is missing, of another kind than it should be, or
            contradicts another one.
    """
    fields = read_header(path).fields
    check_model(path, fields)
    return fields


def head_dim(fields: Mapping[str, Any]) -> int:
    """Elements of a head of a model that :func:`read_model` has read; its share of the width unless the file says."""
    architecture = fields["general.architecture"]
    width = fields[f"{architecture}.embedding_length"] // max(1, *_by_layer(fields, _HEADS))
    return int(fields.get(f"{architecture}.attention.key_length", width))


def kv_heads(fields: Mapping[str, Any]) -> list[int]:
    """Key heads of every layer; as many as there are query heads where the file does not say."""
    return _by_layer(fields, _KV_HEADS if f"{fields['general.architecture']}.{_KV_HEADS}" in fields else _HEADS)


def _by_layer(fields: Mapping[str, Any], key: str) -> list[int]:
    architecture = fields["general.architecture"]
    number = fields[f"{architecture}.{key}"]
    return number if isinstance(number, list) else [number] * int(fields[f"{architecture}.block_count"])


def check_model(path: Path, fields: Mapping[str, Any]) -> None:
    """Raise CheckpointError for keys that cannot be a model's: missing, of another kind, or contradicting another."""
    architecture, tokens = fields.get("general.architecture"), fields.get("tokenizer.ggml.tokens")
    if not isinstance(architecture, str) or not isinstance(tokens, list):
        name = "tokenizer.ggml.tokens" if isinstance(architecture, str) else "general.architecture"
        raise _no_model(f"{path} has no {name}: is it a language model?")
    layers = fields.get(f"{architecture}.block_count")
    for key, most in _NUMBERS.items():
        name = f"{architecture}.{key}"
        if name not in fields and key in _OPTIONAL:
            continue
        number: Any = fields.get(name)
        listed = isinstance(number, list) and key in _BY_LAYER
        each = number if listed else [number]
        if listed and len(each) != layers:
            raise _no_model(f"{path}: {name} has {len(number)} entries for {layers} layers")
        # A layer without attention has no heads.
        least = int(key not in _BY_LAYER)
        if not all(type(one) is int and least <= one <= most for one in each):
            raise _no_model(f"{path}: {name} is {number!r:.40}", f"a number from {least} to {most:,}")
    for key, kind in (("tokens", str), ("token_type", int), ("scores", float), ("merges", str)):
        found = fields.get(f"tokenizer.ggml.{key}", [])
        if not isinstance(found, list) or not all(isinstance(one, kind) for one in found):
            raise _no_model(f"{path}: tokenizer.ggml.{key} is {found!r:.40}", f"a list of {kind.__name__}")
        if found and key != "merges" and len(found) != len(tokens):
            raise _no_model(f"{path}: tokenizer.ggml.{key} has {len(found)} entries for {len(tokens)} tokens")


def _no_model(problem: str, expected: str = "") -> CheckpointError:
    return CheckpointError("gguf-no-model", problem, expected=expected)
