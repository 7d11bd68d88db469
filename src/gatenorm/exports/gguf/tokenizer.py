"""The tokenizer of a checkpoint as GGUF keeps it: ``tokenizer.ggml.*``.

What stands in ``tokenizer.json`` counts, since transformers reads that first; ``tokenizer.model`` where it is absent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatenorm.checkpoint import TensorStore
from gatenorm.checkpoint.formats.safetensors.header import is_utf8
from gatenorm.errors import OutputError
from gatenorm.exports.gguf.added_tokens import Settings
from gatenorm.exports.gguf.special_tokens import OWN_SPACES
from gatenorm.exports.gguf.vocabulary import FIRST_ONLY_NOTE, UNUSED, Vocabulary, from_json, from_pieces
from gatenorm.families import Layout
from gatenorm.files import LARGE
from gatenorm.records import read_json

if TYPE_CHECKING:
    from gguf import GGUFWriter


@dataclass(frozen=True)
class Tokenizer:
    """Everything about a tokenizer that the file says.

    ``rows`` is the number of rows of the embedding: ids beyond the vocabulary's are filled with unused tokens.
    ``special`` has the ids of ``bos``, ``eos``, ``unk`` and ``pad``; ``adds`` whether bos and eos are added to texts.
    """

    vocabulary: Vocabulary
    rows: int
    special: Mapping[str, int]
    adds: tuple[bool, bool]
    chat_template: str | None
    notes: tuple[str, ...]

    def describe(self, writer: GGUFWriter) -> None:
        words, ids = self.vocabulary, range(self.rows)
        writer.add_tokenizer_model(words.kind)
        writer.add_tokenizer_pre(words.pre)
        writer.add_token_list([words.tokens.get(i, f"[PAD{i}]") for i in ids])
        writer.add_token_types([words.types.get(i, UNUSED) for i in ids])
        if words.kind == "llama":
            writer.add_token_scores([float(words.scores.get(words.tokens.get(i, ""), 0.0)) for i in ids])
            writer.add_add_space_prefix(words.space_first)
        else:
            writer.add_token_merges(list(words.merges))
        for name, add in (
            ("bos", writer.add_bos_token_id),
            ("eos", writer.add_eos_token_id),
            ("unk", writer.add_unk_token_id),
            ("pad", writer.add_pad_token_id),
        ):
            if name in self.special:
                add(self.special[name])
        writer.add_add_bos_token(self.adds[0])
        writer.add_add_eos_token(self.adds[1])
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def tokenizer(layout: Layout, rows: int) -> Tokenizer:
    """The tokenizer beside the weights, whose embedding has ``rows`` rows.

    Raises:
        OutputError: there is none, llama.cpp has no such tokenizer, or it has more tokens than the embedding has rows.
    """
    checkpoint = layout.checkpoint
    config = _settings(checkpoint)
    settings = Settings(config, _json(checkpoint, "added_tokens.json"))
    if checkpoint.is_own("tokenizer.json"):
        words = _understood(from_json, _json(checkpoint, "tokenizer.json"), settings)
    elif checkpoint.is_own("tokenizer.model"):
        words = _understood(from_pieces, checkpoint.directory / "tokenizer.model", settings)
    else:
        raise OutputError(
            "tokenizer-missing",
            "there is no tokenizer.json or tokenizer.model beside the weights, and llama.cpp needs one",
        )
    words = _with_rows(words, rows)
    _check(words, rows)
    special = _special(words, config, layout.checkpoint.config)
    return Tokenizer(
        vocabulary=words,
        rows=rows,
        special=special,
        adds=(_adds(words, special, 0), _adds(words, special, 1)),
        chat_template=_chat_template(checkpoint, config),
        notes=_notes(words, config),
    )


def _settings(checkpoint: TensorStore) -> dict[str, Any]:
    """``tokenizer_config.json``, and where that has no tokens of its own what ``special_tokens_map.json`` says, which
    counts more then: as transformers 5 reads them.
    """
    config = _json(checkpoint, "tokenizer_config.json")
    return config if "added_tokens_decoder" in config else {**config, **_json(checkpoint, "special_tokens_map.json")}


def _with_rows(words: Vocabulary, rows: int) -> Vocabulary:
    """Without the tokens that only transformers numbers, and beyond the embedding: nobody can compute with those."""
    gone = [i for i in sorted(words.unnumbered) if i >= rows]
    if not gone:
        return words
    texts = ", ".join(repr(words.tokens[i]) for i in gone)
    return dataclasses.replace(
        words,
        tokens={i: text for i, text in words.tokens.items() if i not in gone},
        types={i: kind for i, kind in words.types.items() if i not in gone},
        notes=(*words.notes, f"left out, since the embedding has no rows for them: {texts:.120}"),
    )


def _check(words: Vocabulary, rows: int) -> None:
    largest = max(words.tokens, default=-1)
    if not words.tokens or min(words.tokens) < 0 or largest >= rows:
        raise OutputError(
            "tokenizer-too-large", f"its tokenizer has ids up to {largest}, but its embedding has {rows:,} rows"
        )
    if len(set(words.tokens.values())) < len(words.tokens):
        raise OutputError("token-twice", "its tokenizer has one text under two ids, which llama.cpp does not load")
    for text in (*words.tokens.values(), *words.merges):
        if not is_utf8(text):
            raise OutputError(
                "token-not-utf8",
                f"its tokenizer has the token {text!r:.60}, half a character that UTF-8 cannot express",
            )


def _adds(words: Vocabulary, special: Mapping[str, int], side: int) -> bool:
    """Whether llama.cpp shall put its token before (0) or after (1) every text."""
    added, name = words.adds[side], ("bos", "eos")[side]
    if isinstance(added, str) and words.tokens.get(special[name]) != added:
        where = ("before", "after")[side]
        raise OutputError(
            "special-token-differs",
            f"its tokenizer puts {added!r:.40} {where} every text, and llama.cpp {words.tokens[special[name]]!r:.40}, "
            f"the {name}_token",
        )
    return bool(added)


def _notes(words: Vocabulary, settings: Mapping[str, Any]) -> tuple[str, ...]:
    rebuilt = words.kind == "llama" and words.space_first and settings.get("tokenizer_class") in OWN_SPACES
    if rebuilt and not settings.get("legacy") and FIRST_ONLY_NOTE not in words.notes:
        return (*words.notes, FIRST_ONLY_NOTE)
    return words.notes


def _understood(read: Callable[..., Vocabulary], *given: Any) -> Vocabulary:
    """What ``read`` makes of files from strangers, in which anything can stand where something else belongs."""
    try:
        return read(*given)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OutputError(
            "tokenizer-damaged", f"its tokenizer files are damaged ({error!r:.80}): fetch them again"
        ) from None


def _json(checkpoint: TensorStore, name: str) -> dict[str, Any]:
    return read_json(checkpoint.directory / name, name, LARGE) if checkpoint.is_own(name) else {}


def _special(words: Vocabulary, settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, int]:
    ids = {text: i for i, text in words.tokens.items()}
    found: dict[str, int] = {}
    for name in ("bos", "eos", "unk", "pad"):
        token = settings.get(f"{name}_token")
        text = token.get("content") if isinstance(token, Mapping) else token
        number = config.get(f"{name}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        if isinstance(text, str) and text in ids:
            found[name] = ids[text]
        elif type(number) is int and number in words.tokens:
            found[name] = number
    ends = [found[name] for name in ("eos", "bos") if name in found]
    if not ends:
        raise OutputError(
            "end-token-missing",
            "its tokenizer names no token for the end of a text, and llama.cpp would take another one",
        )
    # Left out, llama.cpp takes token 11 of a byte-level vocabulary, whatever that is, and 1 and 2 of a SentencePiece's.
    return {"bos": ends[-1], "eos": ends[0], **found}


def _chat_template(checkpoint: TensorStore, settings: Mapping[str, Any]) -> str | None:
    name = "chat_template.jinja"
    if checkpoint.is_own(name):  # as in transformers, the file comes before the settings
        return checkpoint.read(name).decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    # JSON can hold half a character, which no file can.
    template = settings.get("chat_template")
    if isinstance(template, list):
        parts = (part for part in template if isinstance(part, Mapping) and part.get("name") == "default")
        template = next(parts, {}).get("template")
    return template.encode("utf-8", "replace").decode() if isinstance(template, str) else None
