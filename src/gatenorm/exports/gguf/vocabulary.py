"""The vocabulary of a checkpoint's tokenizer in the terms of llama.cpp's two kinds of BPE.

``llama`` is SentencePiece's: spaces are written as ``▁``, bytes stand in for unknown characters, and of two neighbours
those merge whose union has the best score. ``gpt2`` is byte-level: bytes are written as printable characters, texts are
cut first, and merges have ranks.
"""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gatenorm.errors import OutputError
from gatenorm.exports.gguf.added_tokens import SPACE, Added, Settings, added_tokens
from gatenorm.exports.gguf.pretokenizers import recognise
from gatenorm.exports.gguf.sentencepiece import read_sentencepiece
from gatenorm.exports.gguf.special_tokens import OWN_SPACES, Around, by_settings, by_template

# `llama_token_type` of llama.h.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_NO_SETTINGS = Settings({}, {})
SPACES_NOTE = "llama.cpp puts a space before texts that begin with one too"
FIRST_ONLY_NOTE = f"{SPACES_NOTE}, and after special tokens"
_BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id with their types, and what one kind of BPE needs besides: scores, or merges and the cuts' name.

    ``adds`` says what stands before and after every text: nothing, the token for its begin or end, or the one of that
    text. ``unnumbered`` has the ids that no file gives, but transformers.
    """

    kind: str
    tokens: dict[int, str]
    types: dict[int, int]
    scores: Mapping[str, float] = field(default_factory=dict)
    merges: tuple[str, ...] = ()
    pre: str = "default"
    space_first: bool = False
    adds: Around = (False, False)
    unnumbered: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def from_json(data: Mapping[str, Any], settings: Settings = _NO_SETTINGS) -> Vocabulary:
    """The vocabulary of a ``tokenizer.json``, with what the files beside it add.

    Raises:
        OutputError: llama.cpp has no such tokenizer, with what stands in the way.
    """
    model = data.get("model")
    if not isinstance(model, Mapping):
        raise OutputError("tokenizer-file-wrong", "its tokenizer.json has no model")
    kind = model.get("type", "BPE")
    if kind != "BPE":
        raise OutputError(
            "tokenizer-type-unsupported",
            f"its tokenizer is of type {kind!r:.40}: llama.cpp's Llama-like models have BPE",
        )
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise OutputError(
            "tokenizer-type-unsupported",
            "its tokenizer marks the ends of words, for which llama.cpp's BPE has no place",
        )
    vocab, merges = model.get("vocab"), model.get("merges")
    if not (isinstance(vocab, Mapping) and isinstance(merges, list) and all(type(i) is int for i in vocab.values())):
        raise OutputError("tokenizer-file-wrong", "its tokenizer.json has no vocab or no merges")
    if len(set(vocab.values())) < len(vocab):
        raise OutputError("token-twice", "its tokenizer.json has one id for two texts")
    pairs = [_pair(merge) for merge in merges]
    found = (_sentencepiece if model.get("byte_fallback") else _byte_level)(data, _Given(vocab, pairs, settings))
    for left, right in pairs:
        lost = next((text for text in (left, right, left + right) if text not in vocab), None)
        if lost is not None:
            raise OutputError(
                "token-missing",
                f"its tokenizer.json merges {left!r:.40} and {right!r:.40}, but has no token {lost!r:.60}",
            )
    return found


@dataclass(frozen=True)
class _Given:
    vocab: Mapping[str, int]
    pairs: list[tuple[str, str]]
    settings: Settings

    def added(self, own: Any, prepared: Callable[[str], str] | None) -> list[Added]:
        return list(added_tokens(self.vocab, own, self.settings, prepared).values())

    def tokens(self, added: list[Added]) -> tuple[dict[int, str], dict[int, int]]:
        tokens = {i: text for text, i in self.vocab.items()}
        for token in added:
            if tokens.setdefault(token.id, token.content) != token.content:
                raise OutputError(
                    "token-twice", f"its tokenizer has {tokens[token.id]!r:.40} and {token.content!r:.40} under one id"
                )
        types = dict.fromkeys(tokens, NORMAL)
        return tokens, types | {t.id: CONTROL if t.special else USER_DEFINED for t in added}


def _unnumbered(added: list[Added]) -> frozenset[int]:
    return frozenset(token.id for token in added if not token.numbered)


def _pair(merge: Any) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) for part in parts)):
        raise OutputError("tokenizer-file-wrong", f"its tokenizer.json has a merge {merge!r:.60}, expected two tokens")
    return parts[0], parts[1]


def _byte_level(data: Mapping[str, Any], given: _Given) -> Vocabulary:
    normalisers = [step.get("type") for step in _steps(data.get("normalizer"))]
    if normalisers not in ([], ["NFC"]):
        raise OutputError(
            "normalizer-unsupported", f"its tokenizer normalises texts ({normalisers!s:.80}), which llama.cpp does not"
        )
    notes = []
    if normalisers:
        notes.append("llama.cpp does not compose characters (NFC) before cutting a text, as the tokenizer does")
    cuts = recognise(data.get("pre_tokenizer"), bool(data["model"].get("ignore_merges")))
    added = given.added(data.get("added_tokens"), partial(unicodedata.normalize, "NFC") if normalisers else None)
    tokens, types = given.tokens(added)
    return Vocabulary(
        kind="gpt2",
        tokens=tokens,
        types=types,
        merges=tuple(f"{left} {right}" for left, right in given.pairs),
        pre=cuts.name,
        adds=by_template(data.get("post_processor")),
        unnumbered=_unnumbered(added),
        notes=(*notes, *([cuts.note] if cuts.note else [])),
    )


def _marked(text: str) -> str:
    return text.replace(" ", SPACE)


def _sentencepiece(data: Mapping[str, Any], given: _Given) -> Vocabulary:
    space_first, remark = _spaces(data)
    steps, rebuilt = _steps(data.get("normalizer")), given.settings.config.get("tokenizer_class") in OWN_SPACES
    # `_spaces` has refused all but these two; a tokenizer that is built anew has neither.
    first = SPACE if any(step.get("type") == "Prepend" for step in steps) else ""
    prepared = (lambda text: first + _marked(text)) if steps and not rebuilt else None
    added = given.added(data.get("added_tokens"), prepared)
    tokens, types = given.tokens(added)
    texts = {text: i for i, text in tokens.items()}
    if not texts.keys() >= _BYTES:
        raise OutputError("byte-tokens-missing", "its tokenizer falls back on bytes, but has no token for some of them")
    types |= {texts[text]: BYTE for text in _BYTES}
    unknown = data["model"].get("unk_token")
    if unknown in texts:
        types[texts[unknown]] = UNKNOWN
    return Vocabulary(
        kind="llama",
        tokens=tokens,
        types=types,
        scores=_scores(given.pairs, [text for text, i in texts.items() if types[i] == NORMAL]),
        space_first=space_first,
        adds=by_template(data.get("post_processor")),
        unnumbered=_unnumbered(added),
        notes=remark,
    )


def _scores(pairs: list[tuple[str, str]], texts: list[str]) -> dict[str, float]:
    """Scores under which merging the best-scored neighbours is merging by rank.

    llama.cpp merges two neighbours whenever their union is a token, the best-scored union first. That is the same as
    merges by rank if every way to put a token together is among the merges, and all ways to one token stand together.
    That is how transformers writes a SentencePiece model down (``generate_merges``); if the file is otherwise, refuse.
    """
    scores: dict[str, float] = {}
    last = None
    for left, right in pairs:
        union = left + right
        if union != last and union in scores:
            raise OutputError(
                "merges-unordered", "its tokenizer's merges are not in an order that scores of tokens could express"
            )
        scores.setdefault(union, -float(len(scores)))
        last = union
    known, ways = set(texts), set(pairs)
    for text in texts:
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in known and right in known and (left, right) not in ways:
                raise OutputError(
                    "merges-unordered", f"its tokenizer does not merge {left!r} and {right!r} into its token {text!r}"
                )
    return scores


def _spaces(data: Mapping[str, Any]) -> tuple[bool, tuple[str, ...]]:
    """Whether a space is put before a text, and where llama.cpp does so otherwise."""
    flat = [*_steps(data.get("normalizer")), *_steps(data.get("pre_tokenizer"))]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepend = {"type": "Prepend", "prepend": SPACE}
    if flat in ([prepend, replace], [replace]):
        return len(flat) == 2, ()
    if len(flat) == 1 and flat[0].get("type") == "Metaspace" and flat[0].get("replacement") == SPACE:
        scheme, split = flat[0].get("prepend_scheme", "always"), flat[0].get("split", True)
        if not split and scheme == "never":
            return False, ()
        if not split:
            return True, (SPACES_NOTE if scheme == "always" else FIRST_ONLY_NOTE,)
    names = ", ".join(str(part.get("type")) for part in flat) or "nothing"
    raise OutputError(
        "normalizer-unsupported",
        f"its tokenizer prepares texts by {names:.80}, which llama.cpp's SentencePiece does not",
    )


def _steps(step: Any) -> list[Mapping[str, Any]]:
    if not isinstance(step, Mapping):
        return []
    if step.get("type") == "Sequence":
        return list(step.get("normalizers") or step.get("pretokenizers") or ())
    return [step]


def from_pieces(path: Path, settings: Settings = _NO_SETTINGS) -> Vocabulary:
    """The vocabulary of a ``tokenizer.model``, with the added tokens that the files beside it name.

    Raises:
        OutputError: it is damaged or no BPE model, or llama.cpp would look for an added token otherwise.
    """
    model = read_sentencepiece(path)
    vocab = {piece.text: i for i, piece in enumerate(model.pieces)}
    if len(vocab) < len(model.pieces):
        raise OutputError("token-twice", f"{path.name} has one text under two ids, which llama.cpp does not load")
    rebuilt = settings.config.get("tokenizer_class") in OWN_SPACES
    added = list(added_tokens(vocab, None, settings, None if rebuilt else _marked).values())
    tokens, types = _Given(vocab, [], settings).tokens(added)
    for i, piece in enumerate(model.pieces):
        # What SentencePiece itself says of a piece counts, unless it is an ordinary one that was made special.
        if types[i] == NORMAL or piece.type in (UNKNOWN, BYTE):
            types[i] = piece.type
    notes = [FIRST_ONLY_NOTE] if model.space_first else []
    if model.space_first and not rebuilt:
        notes.append("llama.cpp puts a space before a text, as SentencePiece does; transformers 5 does not here")
    return Vocabulary(
        kind="llama",
        tokens=tokens,
        types=types,
        scores={piece.text: piece.score for piece in model.pieces},
        space_first=model.space_first,
        adds=by_settings(settings.config),
        unnumbered=_unnumbered(added),
        notes=tuple(notes),
    )
