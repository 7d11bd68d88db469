"""Tokens that were added to a vocabulary, with the ids that transformers gives them, where llama.cpp can find them.

transformers collects them from four files: ``added_tokens`` of ``tokenizer.json``, then ``added_tokens_decoder`` of
``tokenizer_config.json`` or else ``added_tokens.json``, then every special token that is named (``bos_token``, ...,
``additional_special_tokens``). What is not in the vocabulary by then gets the next free id, whatever id is written
beside it (``PreTrainedTokenizerBase._from_pretrained`` and ``TokenizersBackend.__init__`` of transformers 5.23).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gatenorm.errors import OutputError

SPACE = "▁"
NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_MORE = ("extra_special_tokens", "additional_special_tokens")
_FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")
# Classes that take tokenizer.json as it is; others are built anew of its vocabulary, and then other files count.
_AS_IT_IS = (None, "PreTrainedTokenizerFast", "TokenizersBackend")


@dataclass(frozen=True)
class Added:
    """One token: ``normalized`` is looked for in texts that are prepared already, all others in texts as they are.

    ``numbered`` says that a file gives its id; it is transformers that numbers the others.
    """

    content: str
    id: int
    special: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False
    numbered: bool = True


@dataclass(frozen=True)
class Settings:
    """What lies beside the vocabulary: ``tokenizer_config.json``, and ``added_tokens.json`` (ids by text)."""

    config: Mapping[str, Any]
    added: Mapping[str, Any]


def added_tokens(
    vocabulary: Mapping[str, int], own: Any, settings: Settings, prepared: Callable[[str], str] | None
) -> dict[str, Added]:
    """All added tokens by their text.

    Args:
        vocabulary: ids by text.
        own: ``added_tokens`` of ``tokenizer.json``, or ``None``.
        settings: the other files.
        prepared: what the tokenizer's normaliser makes of a text; ``None`` where it has none.

    Raises:
        OutputError: a token that is no token, that has two ids, or that llama.cpp would look for otherwise.
    """
    found: dict[str, Added] = {}
    for entry in _list(own, "added_tokens of its tokenizer.json"):
        token = _token(entry, "added_tokens of its tokenizer.json", entry.get("id") if _is(entry) else None)
        if vocabulary.get(token.content, token.id) != token.id or token.content in found:
            raise OutputError(
                "token-twice", f"its tokenizer.json gives {token.content!r:.60} two ids, or names it twice"
            )
        found[token.content] = token
    for token in _declared(settings, found, vocabulary):
        has = found[token.content].id if token.content in found else vocabulary.get(token.content)
        number = _next(vocabulary, found) if has is None else has
        if token.id != number:
            raise OutputError(
                "token-id-differs",
                f"its added token {token.content!r:.60} is said to have id {token.id}, but transformers "
                f"gives it {number}",
            )
        found[token.content] = token
    for text in _named(settings.config):
        if text in found:
            found[text] = replace(found[text], special=True)
        else:
            found[text] = Added(text, vocabulary.get(text, _next(vocabulary, found)), special=True, numbered=False)
    for token in found.values():
        _check(token, prepared)
    return found


def _next(vocabulary: Mapping[str, int], found: Mapping[str, Added]) -> int:
    """The id that the tokenizers library gives a new token: after the vocabulary and all that were added."""
    return max(len(vocabulary), 1 + max((token.id for token in found.values()), default=-1))


def _declared(settings: Settings, found: Mapping[str, Added], vocabulary: Mapping[str, int]) -> list[Added]:
    where = "added_tokens_decoder of its tokenizer_config.json"
    decoder = settings.config.get("added_tokens_decoder")
    if decoder is not None:
        if not isinstance(decoder, Mapping):
            raise OutputError("tokenizer-file-wrong", f"the {where} is {decoder!r:.60}, expected tokens by id")
        tokens = [_token(entry, where, int(key) if str(key).isdecimal() else key) for key, entry in decoder.items()]
        lost = [text for text in found if text not in vocabulary and text not in {token.content for token in tokens}]
        if lost and settings.config.get("tokenizer_class") not in _AS_IT_IS:
            raise OutputError("token-missing", f"its tokenizer.json adds {lost[0]!r:.60}, which the {where} has not")
        return sorted(tokens, key=lambda token: token.id)
    named = set(_named(settings.config))
    entries = [
        _token({"content": text, "special": text in named}, "entries of its added_tokens.json", i)
        for text, i in settings.added.items()
    ]
    return sorted((e for e in entries if e.content not in found), key=lambda token: token.id)


def _named(config: Mapping[str, Any]) -> Iterator[str]:
    """The texts of the special tokens that the settings name, in the order in which transformers adds them."""
    for name in NAMED:
        given = config.get(f"{name}_token")
        if given is not None:
            yield _text(given, f"{name}_token")
    for key in _MORE:
        given = config.get(key)
        entries = list(given.values()) if isinstance(given, Mapping) else _list(given, key)
        yield from (_text(entry, key) for entry in entries)


def _text(given: Any, where: str) -> str:
    text = given.get("content") if _is(given) else given
    if not isinstance(text, str) or not text:
        raise OutputError(
            "tokenizer-file-wrong", f"the {where} of its tokenizer_config.json is {given!r:.60}, expected a token"
        )
    if _is(given):
        _flags(given, where)
    return text


def _token(entry: Any, where: str, number: Any) -> Added:
    content = entry.get("content") if _is(entry) else None
    if not isinstance(content, str) or not content or type(number) is not int or number < 0:
        raise OutputError("tokenizer-file-wrong", f"the {where} hold {entry!r:.80}, expected a token with its id")
    flags = _flags(entry, where)
    # As AddedToken has it: special tokens are looked for in the text as it is, unless they say otherwise.
    return Added(content, number, **{"normalized": not flags.get("special", False), **flags})


def _flags(entry: Mapping[str, Any], where: str) -> dict[str, bool]:
    flags = {name: entry[name] for name in _FLAGS if name in entry}
    if not all(isinstance(flag, bool) for flag in flags.values()):
        raise OutputError(
            "tokenizer-file-wrong", f"the {where} hold {dict(entry)!r:.80}, expected flags that are true or false"
        )
    return flags


def _is(entry: Any) -> bool:
    return isinstance(entry, Mapping)


def _list(given: Any, where: str) -> list[Any]:
    if given is None:
        return []
    if not isinstance(given, list):
        raise OutputError("tokenizer-file-wrong", f"{where} is {given!r:.60}, expected a list of tokens")
    return given


def _check(token: Added, prepared: Callable[[str], str] | None) -> None:
    for flag, what in (
        ("single_word", "is looked for between words only"),
        ("lstrip", "takes the spaces before it along"),
        ("rstrip", "takes the spaces after it along"),
    ):
        if getattr(token, flag):
            raise OutputError(
                "token-flag-unsupported",
                f"its added token {token.content!r:.60} {what} ({flag}), which llama.cpp does not do",
            )
    # Looked for in the prepared text, it is another text there: a mark that stands for a space is found at spaces.
    text = token.content
    if token.normalized and prepared and (prepared(text) != text or (SPACE in text and SPACE in prepared(" "))):
        raise OutputError(
            "token-flag-unsupported",
            f"its added token {token.content!r:.60} is looked for in texts that are prepared already (normalized), and "
            "llama.cpp looks for it before",
        )
