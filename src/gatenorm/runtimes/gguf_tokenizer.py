"""The tokenizer of a checkpoint as GGUF keeps it: ``tokenizer.ggml.*``.

What stands in ``tokenizer.json`` counts, since transformers reads that first; ``tokenizer.model`` where it is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.errors import OutputError
from gatenorm.families import Layout
from gatenorm.records import read_json
from gatenorm.runtimes.gguf_vocabulary import FIRST_ONLY_NOTE, UNUSED, Vocabulary, from_json, from_pieces
from gatenorm.surgery.config import belongs

if TYPE_CHECKING:
    from gguf import GGUFWriter

# transformers 5 builds these anew, whatever tokenizer.json says, with a space before the first piece only.
_OWN_SPACES = ("LlamaTokenizer", "LlamaTokenizerFast")


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
        """Add ``tokenizer.ggml.*`` to a file."""
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
    directory = layout.checkpoint.directory
    whole, pieces = directory / "tokenizer.json", directory / "tokenizer.model"
    if _there(whole):
        words = _understood(from_json, _json(whole))
    elif _there(pieces):
        words = _understood(from_pieces, pieces, _json(directory / "tokenizer_config.json"))
    else:
        raise OutputError("there is no tokenizer.json or tokenizer.model beside the weights, and llama.cpp needs one")
    largest = max(words.tokens, default=-1)
    if not words.tokens or min(words.tokens) < 0 or largest >= rows:
        raise OutputError(f"its tokenizer has ids up to {largest}, but its embedding has {rows:,} rows")
    if len(set(words.tokens.values())) < len(words.tokens):
        raise OutputError("its tokenizer has one text under two ids, which llama.cpp does not load")
    settings = {**_json(directory / "special_tokens_map.json"), **_json(directory / "tokenizer_config.json")}
    return Tokenizer(
        vocabulary=words,
        rows=rows,
        special=_special(words, settings, layout.checkpoint.config),
        adds=words.adds,
        chat_template=_chat_template(directory, settings),
        notes=_notes(words, settings),
    )


def _notes(words: Vocabulary, settings: Mapping[str, Any]) -> tuple[str, ...]:
    rebuilt = words.kind == "llama" and words.space_first and settings.get("tokenizer_class") in _OWN_SPACES
    if rebuilt and not settings.get("legacy") and FIRST_ONLY_NOTE not in words.notes:
        return (*words.notes, FIRST_ONLY_NOTE)
    return words.notes


def _understood(read: Callable[..., Vocabulary], *given: Any) -> Vocabulary:
    """What ``read`` makes of files from strangers, in which anything can stand where something else belongs."""
    try:
        return read(*given)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OutputError(f"its tokenizer files are damaged ({error!r:.80}): fetch them again") from None


def _there(path: Path) -> bool:
    return path.is_file() and belongs(path)


def _json(path: Path) -> dict[str, Any]:
    return read_json(path, path.name) if _there(path) else {}


def _special(words: Vocabulary, settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, int]:
    """Ids of the special tokens: as the tokenizer's settings name them, else as the config numbers them."""
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
        raise OutputError("its tokenizer names no token for the end of a text, and llama.cpp would take another one")
    # Left out, llama.cpp takes token 11 of a byte-level vocabulary, whatever that is, and 1 and 2 of a SentencePiece's.
    return {"bos": ends[-1], "eos": ends[0], **found}


def _chat_template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    file = directory / "chat_template.jinja"
    if _there(file):  # as in transformers, the file comes before the settings
        return file.read_text(encoding="utf-8", errors="replace")
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, Mapping)}
        template = named.get("default")
    return template if isinstance(template, str) else None
