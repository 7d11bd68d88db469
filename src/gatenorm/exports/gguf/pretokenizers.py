"""How byte-level BPE tokenizers cut a text before merging, as llama.cpp names it (``tokenizer.ggml.pre``).

A ``tokenizer.json`` spells its cuts out; llama.cpp has them built in, by name (src/llama-vocab.cpp,
``llm_tokenizer_bpe``). So the cuts are brought into one form, the regular expressions that are applied in turn, and
looked up. What is not in the table is refused: a model that is fed differently cut text answers worse, without a word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatenorm.errors import OutputError

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SLASHED_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_CAPITAL = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_LLAMA3 = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_TAIL}"
_QWEN2 = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_TAIL}"
_TEKKEN = rf"{_CASED}|{_CAPITAL}|\p{{N}}|{_SLASHED_TAIL}"
_GPT4O = rf"{_CASED}{_ENDINGS}?|{_CAPITAL}{_ENDINGS}?|\p{{N}}{{1,3}}|{_SLASHED_TAIL}"
_DEEPSEEK_V3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_APPROXIMATE = "llama.cpp cuts words that mix capital and small letters other than a to z in its own way"


@dataclass(frozen=True)
class PreTokenizer:
    """A name that llama.cpp knows, the expressions it stands for, and whether whole words are looked up before merging.

    ``note`` says where llama.cpp does it otherwise than the expressions do.
    """

    name: str
    expressions: tuple[str, ...]
    whole_words: bool = False
    note: str = ""


TABLE = (
    PreTokenizer("gpt-2", (_GPT2,)),
    PreTokenizer("llama-bpe", (_LLAMA3,), whole_words=True),
    PreTokenizer("smaug-bpe", (_LLAMA3,)),
    PreTokenizer("qwen2", (_QWEN2,)),
    PreTokenizer("smollm", (_DIGIT, _GPT2)),
    PreTokenizer("deepseek-coder", (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", _DIGIT)),
    PreTokenizer("deepseek-v3", (r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK_V3)),
    PreTokenizer("tekken", (_TEKKEN,), whole_words=True, note=_APPROXIMATE),
    PreTokenizer("gpt-4o", (_GPT4O,), note=_APPROXIMATE),
)


def recognise(given: Any, whole_words: bool) -> PreTokenizer:
    """The entry of the table that cuts as ``given``, the ``pre_tokenizer`` of a ``tokenizer.json``, does.

    Raises:
        OutputError: there is none, with what was found.
    """
    expressions = tuple(_expressions(given))
    for entry in TABLE:
        if entry.expressions == expressions and entry.whole_words == whole_words:
            return entry
    known = ", ".join(entry.name for entry in TABLE)
    found = " then ".join(expressions) or "nothing"
    looked_up = " (whole words looked up first)" if whole_words else ""
    raise OutputError(
        "pretokenizer-unknown",
        f"its tokenizer cuts texts by {found:.200}{looked_up}, which llama.cpp has no name for: {known}",
    )


def _expressions(given: Any) -> Sequence[str]:
    if not isinstance(given, Mapping):
        raise OutputError("pretokenizer-missing", "its tokenizer is byte-level BPE without a pre_tokenizer")
    kind = given.get("type")
    if kind == "Sequence" and isinstance(given.get("pretokenizers"), list):
        return [expression for part in given["pretokenizers"] for expression in _expressions(part)]
    if kind == "ByteLevel" and given.get("add_prefix_space"):
        raise OutputError(
            "pretokenizer-unsupported",
            "its tokenizer puts a space before every text, which llama.cpp's byte-level BPE does not",
        )
    if kind == "ByteLevel":
        return [_GPT2] if given.get("use_regex", True) else []
    if kind == "Digits":
        return [_DIGIT if given.get("individual_digits") else _DIGIT + "+"]
    pattern = given.get("pattern")
    # "Isolated" cuts around the matches; "Removed" with `invert` keeps the matches alone, which for an expression that
    # matches everything comes to the same.
    cuts = (given.get("behavior"), bool(given.get("invert"))) in (("Isolated", False), ("Removed", True))
    if kind == "Split" and cuts and isinstance(pattern, Mapping) and isinstance(pattern.get("Regex"), str):
        # Line ends as escapes: some files have them in their expressions as such, some the characters themselves.
        return [pattern["Regex"].replace("\r", r"\r").replace("\n", r"\n")]
    raise OutputError(
        "pretokenizer-unknown", f"its tokenizer cuts texts by a step {kind!r:.40} that llama.cpp has no name for"
    )
