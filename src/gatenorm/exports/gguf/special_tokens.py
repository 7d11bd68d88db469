"""The special tokens that a tokenizer puts before and after every text, as far as llama.cpp can: one on either side.

``False`` is none, ``True`` the token for the begin or end of a text, and a string the token of that text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gatenorm.errors import OutputError

# transformers 5 builds these anew, whatever tokenizer.json says, with a space before the first piece only.
OWN_SPACES = ("LlamaTokenizer", "LlamaTokenizerFast")
# Post-processors that move offsets and add nothing.
_SILENT = ("ByteLevel",)
_WHAT = "its tokenizer puts {} around texts, for which llama.cpp has no place: it knows one token before and one after"


Around = tuple[str | bool, str | bool]


def by_settings(settings: Mapping[str, Any]) -> Around:
    """What transformers puts around texts where there is a ``tokenizer.model`` alone: ``add_bos_token`` and
    ``add_eos_token`` of ``tokenizer_config.json``, each false where it is absent. Beside a ``tokenizer.json`` they do
    not count.

    Raises:
        OutputError: one of them is neither true nor false.
    """
    return _flag(settings, "bos"), _flag(settings, "eos")


def _flag(settings: Mapping[str, Any], name: str) -> bool:
    flag = settings.get(f"add_{name}_token")
    if flag is not None and not isinstance(flag, bool):
        raise OutputError(
            "tokenizer-file-wrong",
            f"its tokenizer_config.json says add_{name}_token: {flag!r:.40}, expected true or false",
        )
    return bool(flag)


def by_template(processor: Any) -> Around:
    """What a post-processor of ``tokenizer.json`` puts around texts.

    Raises:
        OutputError: more than one token on a side, or a post-processor that is not known.
    """
    if processor is None:
        return False, False
    kind = processor.get("type") if isinstance(processor, Mapping) else processor
    if kind == "Sequence" and isinstance(processor.get("processors"), list):
        adding = [
            part for part in processor["processors"] if not isinstance(part, Mapping) or part.get("type") not in _SILENT
        ]
        if len(adding) > 1:
            raise OutputError("post-processor-unsupported", _WHAT.format("tokens by more than one rule"))
        return by_template(adding[0] if adding else None)
    if kind in _SILENT:
        return False, False
    single = processor.get("single") if kind == "TemplateProcessing" else None
    if not isinstance(single, list):
        raise OutputError(
            "post-processor-unsupported",
            f"its tokenizer has a post-processor {kind!r:.40} that llama.cpp has no counterpart of",
        )
    return _sides(processor, single)


def _sides(processor: Mapping[str, Any], single: Sequence[Any]) -> Around:
    names = [_name(part) for part in single]
    if names.count(None) != 1 or len(names) > 3:
        raise OutputError(
            "post-processor-unsupported", _WHAT.format(" ".join(name or "TEXT" for name in names)[:80] or "nothing")
        )
    at = names.index(None)
    sides = names[:at], names[at + 1 :]
    if max(map(len, sides)) > 1:
        raise OutputError("post-processor-unsupported", _WHAT.format(" ".join(name or "TEXT" for name in names)[:80]))
    before, after = (_token(processor, side[0]) if side and side[0] else False for side in sides)
    return before, after


def _name(part: Any) -> str | None:
    """The name of a special token in a template; ``None`` for the text itself."""
    if isinstance(part, Mapping) and len(part) == 1:
        kind, said = next(iter(part.items()))
        if kind == "Sequence" and isinstance(said, Mapping) and said.get("id") == "A":
            return None
        if kind == "SpecialToken" and isinstance(said, Mapping) and isinstance(said.get("id"), str):
            return str(said["id"])
    raise OutputError(
        "tokenizer-file-wrong",
        f"its tokenizer's post-processor has a step {part!r:.60}, expected a special token or the text",
    )


def _token(processor: Mapping[str, Any], name: str) -> str:
    known = processor.get("special_tokens")
    entry = known.get(name) if isinstance(known, Mapping) else None
    tokens = entry.get("tokens") if isinstance(entry, Mapping) else None
    if not (isinstance(tokens, list) and len(tokens) == 1 and isinstance(tokens[0], str)):
        raise OutputError("post-processor-unsupported", _WHAT.format(f"{name!r:.40}, which is not one token,"))
    return str(tokens[0])
