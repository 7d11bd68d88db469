"""How much larger a tokenizer can make a text: a bound from its rules alone, whatever the text.

Rules of a ``tokenizer.json`` run one after the other, so what each can do at most is multiplied. Which text a rule is
waiting for does not matter.
"""

import base64
import binascii
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gatenorm.errors import CheckpointError

# Published tokenizers have a factor of two or three, up to ten rules, and one or two tokens around a text.
_FACTOR, _RULES, _ADDED = 16, 100, 100
# What one character becomes in a table: U+FDFA 18 of them in those of SentencePiece.
_LONGEST_CHARACTER = 64
# What stands before or behind the parts of a word, and words that WordPiece looks at piece by piece.
_LIMITS = {"continuing_subword_prefix": 100, "end_of_word_suffix": 100, "max_input_chars_per_word": 10_000}
_LISTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
PARTS = (*_LISTS, "post_processor")
_UNICODE = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "BertNormalizer", "Nmt"}
# How many times as long texts become by rules of which one is usual, where there is another one.
_AGAIN = {"ByteLevel": 4, "Precompiled": _LONGEST_CHARACTER, "Metaspace": 2}


def check_growth(tokenizer: object) -> None:
    """Look at the rules of a ``tokenizer.json``; what is missing or nonsense fails where it is loaded.

    Raises:
        CheckpointError: there are more than 100, or they can make a text more than 16 times as long, one character of a
            table more than 64, or put more than 100 tokens around a text.
    """
    if not isinstance(tokenizer, dict):
        return
    for part, inner in _LISTS.items():
        rules = _flat(tokenizer.get(part), inner, part)
        factor, brought = 1.0, ""
        for number, rule in enumerate(rules):
            before = {str(earlier.get("type")) for earlier in rules[:number]}
            factor *= _factor(rule, before, brought)
            brought += str(rule.get("content", "")) + str(rule.get("prepend", ""))
        if factor > _FACTOR:
            raise _grows(f"a {part} that can make a text {factor:,.0f} times as long", f"at most {_FACTOR} times")
    _check_added(_flat(tokenizer.get("post_processor"), "processors", "post_processor"))
    model = tokenizer.get("model")
    for key, most in _LIMITS.items():
        value = model.get(key) if isinstance(model, dict) else None
        size = len(value) if isinstance(value, str) else value
        if isinstance(size, int) and size > most:
            raise _grows(f"a {key} of {size:,}", f"at most {most:,}")


def _flat(rule: object, inner: str, part: str) -> list[Mapping[str, Any]]:
    """The rules in a rule, those of sequences in sequences too, in their order."""

    def within(rule: object) -> Iterator[Mapping[str, Any]]:
        nested = rule.get(inner) if isinstance(rule, dict) else None
        if isinstance(nested, list):
            for each in nested:
                yield from within(each)
        elif isinstance(rule, dict):
            yield rule

    rules = list(within(rule))
    if len(rules) > _RULES:
        raise _grows(f"a {part} of {len(rules):,} rules", f"at most {_RULES}")
    return rules


def _factor(rule: Mapping[str, Any], before: set[str], brought: str) -> float:
    """How many times as long a rule can make a text, behind rules of other types that brought characters in.

    The tokenizers package knows rules by what they hold where they have no type.
    """
    if {"content", "pattern"} <= rule.keys():
        content, pattern = str(rule["content"]), rule["pattern"]
        sought = pattern.get("String") if isinstance(pattern, dict) else pattern
        # An expression may match nothing, and be everywhere.
        return max(1.0, len(content) / len(sought)) if isinstance(sought, str) and sought else 1.0 + len(content)
    if "prepend" in rule:  # to each stretch between added tokens, which may have one character
        return 1.0 + len(str(rule["prepend"]))
    if "precompiled_charsmap" in rule:
        _check_table(rule["precompiled_charsmap"])
    kind = str(rule.get("type"))
    if kind in _AGAIN:
        return _AGAIN[kind] if kind in before else 1.0
    if kind in _UNICODE:
        # Few characters of a reader's own text become many; what other rules bring in may have no others.
        padded = 3 if kind == "BertNormalizer" and not brought.isascii() else 1
        return padded * max((len(unicodedata.normalize("NFKD", letter.lower())) for letter in {*brought}), default=1)
    return 1.0


def _check_table(table: object) -> None:
    """Raise CheckpointError for long texts in a table of SentencePiece: a trie, and texts that end with a zero."""
    try:
        content = base64.b64decode(str(table))
    except (binascii.Error, ValueError):
        return
    texts = content[4 + int.from_bytes(content[:4], "little") :].decode("utf-8", "replace")
    longest = max(map(len, texts.split("\0")))
    if longest > _LONGEST_CHARACTER:
        raise _grows(f"a table that makes {longest:,} characters of one", f"at most {_LONGEST_CHARACTER}")


def _check_added(rules: Sequence[Mapping[str, Any]]) -> None:
    """Raise CheckpointError for rules that put many tokens, or the text itself again, around a text."""
    added = 0
    for rule in rules:
        for form, texts in (("single", 1), ("pair", 2)):
            pieces = rule.get(form)
            pieces = pieces if isinstance(pieces, list) else []
            named = sum(isinstance(piece, dict) and "Sequence" in piece for piece in pieces)
            if named > texts:
                raise _grows(f"a post_processor that repeats a text {named:,} times", "every text once")
            added += len(pieces) - named
        tokens = rule.get("special_tokens")
        for token in tokens.values() if isinstance(tokens, dict) else ():
            ids = token.get("ids") if isinstance(token, dict) else None
            added += len(ids) - 1 if isinstance(ids, list) else 0
    if added > _ADDED:
        raise _grows(f"a post_processor that puts {added:,} tokens around a text", f"at most {_ADDED}")


def _grows(has: str, expected: str) -> CheckpointError:
    return CheckpointError(
        "tokenizer-grows", f"the tokenizer has {has}", expected=expected, hint="fetch its files again"
    )
