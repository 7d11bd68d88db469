"""The vocabulary of a checkpoint's tokenizer in the terms of llama.cpp's two kinds of BPE.

``llama`` is SentencePiece's: spaces are written as ``▁``, bytes stand in for unknown characters, and of two neighbours
those merge whose union has the best score. ``gpt2`` is byte-level: bytes are written as printable characters, texts are
cut first, and merges have ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatenorm.errors import OutputError
from gatenorm.runtimes.gguf_pretokenizers import recognise
from gatenorm.runtimes.gguf_sentencepiece import read_sentencepiece

# `llama_token_type` of llama.h.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPACE = "▁"
SPACES_NOTE = "llama.cpp puts a space before texts that begin with one too"
FIRST_ONLY_NOTE = f"{SPACES_NOTE}, and after special tokens"
_BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id with their types, and what one kind of BPE needs besides: scores, or merges and the cuts' name."""

    kind: str
    tokens: dict[int, str]
    types: dict[int, int]
    scores: Mapping[str, float] = field(default_factory=dict)
    merges: tuple[str, ...] = ()
    pre: str = "default"
    space_first: bool = False
    adds: tuple[bool, bool] = (False, False)
    notes: tuple[str, ...] = ()


def from_json(data: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of a ``tokenizer.json``.

    Raises:
        OutputError: llama.cpp has no such tokenizer, with what stands in the way.
    """
    model = data.get("model")
    if not isinstance(model, Mapping):
        raise OutputError("its tokenizer.json has no model")
    kind = model.get("type", "BPE")
    if kind != "BPE":
        raise OutputError(f"its tokenizer is of type {kind!r:.40}: llama.cpp's Llama-like models have BPE")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise OutputError("its tokenizer marks the ends of words, for which llama.cpp's BPE has no place")
    vocab, merges = model.get("vocab"), model.get("merges")
    if not (isinstance(vocab, Mapping) and isinstance(merges, list) and all(type(i) is int for i in vocab.values())):
        raise OutputError("its tokenizer.json has no vocab or no merges")
    pairs = [_pair(merge) for merge in merges]
    added = [token for token in data.get("added_tokens") or () if isinstance(token, Mapping)]
    tokens = {i: text for text, i in vocab.items()} | {token["id"]: token["content"] for token in added}
    types = dict.fromkeys(tokens, NORMAL)
    types |= {token["id"]: CONTROL if token.get("special") else USER_DEFINED for token in added}
    notes = []
    if any(token.get("lstrip") or token.get("rstrip") for token in added):
        notes.append("some added tokens swallow the spaces beside them; llama.cpp keeps those")
    build = _sentencepiece if model.get("byte_fallback") else _byte_level
    return build(data, pairs, tokens, types, notes)


def _pair(merge: Any) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) for part in parts)):
        raise OutputError(f"its tokenizer.json has a merge {merge!r:.60}, expected two tokens")
    return parts[0], parts[1]


def _byte_level(
    data: Mapping[str, Any],
    pairs: list[tuple[str, str]],
    tokens: dict[int, str],
    types: dict[int, int],
    notes: list[str],
) -> Vocabulary:
    normalisers = [step.get("type") for step in _steps(data.get("normalizer"))]
    if normalisers not in ([], ["NFC"]):
        raise OutputError(f"its tokenizer normalises texts ({normalisers!s:.80}), which llama.cpp does not")
    if normalisers:
        notes.append("llama.cpp does not compose characters (NFC) before cutting a text, as the tokenizer does")
    cuts = recognise(data.get("pre_tokenizer"), bool(data["model"].get("ignore_merges")))
    return Vocabulary(
        kind="gpt2",
        tokens=tokens,
        types=types,
        merges=tuple(f"{left} {right}" for left, right in pairs),
        pre=cuts.name,
        adds=_template(data.get("post_processor")),
        notes=(*notes, *([cuts.note] if cuts.note else [])),
    )


def _sentencepiece(
    data: Mapping[str, Any],
    pairs: list[tuple[str, str]],
    tokens: dict[int, str],
    types: dict[int, int],
    notes: list[str],
) -> Vocabulary:
    texts = {text: i for i, text in tokens.items()}
    if not texts.keys() >= _BYTES:
        raise OutputError("its tokenizer falls back on bytes, but has no token for some of them")
    types |= {texts[text]: BYTE for text in _BYTES}
    unknown = data["model"].get("unk_token")
    if unknown in texts:
        types[texts[unknown]] = UNKNOWN
    space_first, remark = _spaces(data)
    return Vocabulary(
        kind="llama",
        tokens=tokens,
        types=types,
        scores=_scores(pairs, [text for text, i in texts.items() if types[i] == NORMAL]),
        space_first=space_first,
        adds=_template(data.get("post_processor")),
        notes=(*notes, *remark),
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
            raise OutputError("its tokenizer's merges are not in an order that scores of tokens could express")
        scores.setdefault(union, -float(len(scores)))
        last = union
    known, ways = set(texts), set(pairs)
    for text in texts:
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in known and right in known and (left, right) not in ways:
                raise OutputError(f"its tokenizer does not merge {left!r} and {right!r} into its token {text!r}")
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
    raise OutputError(f"its tokenizer prepares texts by {names:.80}, which llama.cpp's SentencePiece does not")


def _steps(step: Any) -> list[Mapping[str, Any]]:
    """What a normaliser or pre-tokenizer does, one step after the other."""
    if not isinstance(step, Mapping):
        return []
    if step.get("type") == "Sequence":
        return list(step.get("normalizers") or step.get("pretokenizers") or ())
    return [step]


def _template(processor: Any) -> tuple[bool, bool]:
    """Whether a post-processor puts a special token before and after a single text."""
    if not isinstance(processor, Mapping):
        return False, False
    if processor.get("type") == "Sequence":
        found = [_template(part) for part in processor.get("processors") or ()]
        return any(first for first, _ in found), any(last for _, last in found)
    single = processor.get("single")
    if processor.get("type") != "TemplateProcessing" or not isinstance(single, list) or not single:
        return False, False
    return "SpecialToken" in single[0], "SpecialToken" in single[-1]


def from_pieces(path: Path, settings: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of a ``tokenizer.model``, with the added tokens that ``tokenizer_config.json`` names.

    Raises:
        OutputError: it is damaged or no BPE model.
    """
    model = read_sentencepiece(path)
    tokens = {i: piece.text for i, piece in enumerate(model.pieces)}
    types = {i: piece.type for i, piece in enumerate(model.pieces)}
    added = settings.get("added_tokens_decoder")
    for name, token in added.items() if isinstance(added, Mapping) else ():
        i = int(name)
        tokens[i] = str(token["content"])
        if types.get(i) not in (UNKNOWN, BYTE):
            types[i] = CONTROL if token.get("special") else USER_DEFINED
    return Vocabulary(
        kind="llama",
        tokens=tokens,
        types=types,
        scores={piece.text: piece.score for piece in model.pieces},
        space_first=model.space_first,
        adds=(bool(settings.get("add_bos_token", True)), bool(settings.get("add_eos_token", False))),
        notes=(FIRST_ONLY_NOTE,) if model.space_first else (),
    )
