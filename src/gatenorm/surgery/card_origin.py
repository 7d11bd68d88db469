"""Where a checkpoint comes from, as its model card says it: base model, licence, and words of others as Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gatenorm.checkpoint import TensorStore, hub_id
from gatenorm.errors import CheckpointError, printable
from gatenorm.families import Layout
from gatenorm.files.yaml import parse_yaml

_CARD = "README.md"
# What the hub reads of a card, between two lines of hyphens.
_HEAD = re.compile(rb"\s*---\r?\n(.*?)\n---\s*(?:\n|$)", re.DOTALL)
_MARKUP = re.compile(r"[\\`*\[\]<>|&~#]")
_PLAIN = re.compile(r"[\w.-]+")


def metadata_of(
    layout: Layout, carried: Sequence[str], tags: list[str], library: str | None = "transformers"
) -> tuple[str, str | None, str]:
    """The metadata of a card as YAML, the id of the base model if it is known, and a sentence about the licence."""
    from huggingface_hub import ModelCardData

    source = _source_metadata(layout.checkpoint)
    base = _base_model(layout, source)
    licence = {k: source[k] for k in ("license", "license_name", "license_link") if source.get(k)}
    metadata = ModelCardData(base_model=base, library_name=library, tags=tags, **licence).to_yaml()
    if licence:
        terms = f"Licence, as the source states it: {code_of(str(licence.get('license_name') or licence['license']))}."
    else:
        terms = "The source states no licence in its card: its terms, whatever they are, apply."
    files = [n for n in carried if n.upper().startswith(("LICENSE", "LICENCE", "NOTICE", "COPYING", "USE_POLICY"))]
    if files:
        terms += f" See {', '.join(f'[{n}]({n})' if _PLAIN.fullmatch(n) else code_of(n) for n in files)}."
    return metadata, base, terms


def text_of(words: str) -> str:
    """Words of others as Markdown shows them: no markup, no line of their own."""
    return _MARKUP.sub(r"\\\g<0>", printable(words))


def code_of(words: str) -> str:
    """Words of others as a code span."""
    return f"`{printable(words).replace('`', chr(39))}`"


def _source_metadata(checkpoint: TensorStore) -> Mapping[str, Any]:
    """The YAML head of the source's card; a card that cannot be read is treated as none."""
    if not checkpoint.is_own(_CARD):
        return {}
    try:
        head = _HEAD.match(checkpoint.read(_CARD))
        found = parse_yaml(head[1]) if head else None
    except (CheckpointError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _base_model(layout: Layout, source: Mapping[str, Any]) -> str | None:
    """The hub id of the source, where one can be told; a pruned source passes its own base model on."""
    if layout.edits and isinstance(source.get("base_model"), str):
        return str(source["base_model"])
    return hub_id(layout.checkpoint.directory)
