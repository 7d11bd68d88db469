"""Text to evaluate on, by protocol: as it stands, as WikiText-2 rows joined, or cut into documents."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gatenorm.errors import EvaluationError, MissingExtraError

WIKITEXT2 = "wikitext2"


@dataclass(frozen=True)
class Text:
    """A text and where it comes from; ``protocol`` says in words how it was put together."""

    name: str
    content: str
    sha256: str
    protocol: str

    def identity(self) -> dict[str, object]:
        return {"name": self.name, "sha256": self.sha256, "characters": len(self.content)}


def read_text(source: str) -> Text:
    """The text that ``--data`` names.

    ``FILE`` is plain UTF-8 text as it stands; ``wikitext2`` the raw test split from the hub; ``wikitext2=FILE`` the
    same from a local raw file: rows are lines, joined by two newlines as in the usual protocol.

    Raises:
        EvaluationError: no such file, not UTF-8, or empty.
        MissingExtraError: ``wikitext2`` without a file needs ``datasets``.
    """
    if source == WIKITEXT2:
        return _wikitext2_from_hub()
    joined = source.startswith(WIKITEXT2 + "=")
    path = Path(source.removeprefix(WIKITEXT2 + "=") if joined else source).expanduser()
    try:
        raw = path.read_bytes()
        content = raw.decode("utf-8")
    except FileNotFoundError:
        raise EvaluationError(
            f"--data {source}: there is no file {path}; expected a text file, or wikitext2[=FILE]"
        ) from None
    except UnicodeDecodeError as error:
        raise EvaluationError(f"--data {source}: byte {error.start} is not UTF-8; expected plain text") from None
    except OSError as error:
        raise EvaluationError(f"--data {source}: {error.strerror}") from None
    if not content.strip():
        raise EvaluationError(f"--data {source}: the file is empty")
    if joined:
        content = "\n\n".join(wikitext_rows(content))
    how = "WikiText-2 raw, test split, rows joined by two newlines" if joined else "plain text as it stands"
    return Text(path.name, content, hashlib.sha256(raw).hexdigest(), how)


def wikitext_rows(raw: str) -> list[str]:
    """The rows of the hub's ``wikitext-2-raw-v1`` out of its raw file: a lone space is an empty row."""
    lines = raw.split("\n")
    if lines[-1] == "":
        lines.pop()
    return ["" if line == " " else line + "\n" for line in lines]


def _wikitext2_from_hub() -> Text:
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingExtraError("--data wikitext2 without a file", "datasets", "eval") from None
    try:
        rows = load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1", split="test")["text"]
    except Exception as error:  # datasets lets through whatever its network layers raise
        raise EvaluationError(
            f"wikitext2 could not be fetched ({type(error).__name__}): give the raw test file as --data wikitext2=FILE"
        ) from error
    content = "\n\n".join(rows)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Text(WIKITEXT2, content, digest, "WikiText-2 raw, test split, rows joined by two newlines")


def documents(text: Text, separator: str, limit: int | None = None) -> list[str]:
    """The documents of a text: pieces that have ``separator`` on both sides, stripped, empty ones left out.

    What stands before the first and after the last separator may be cut off, so it does not count.

    Raises:
        EvaluationError: fewer than two separators, or nothing between them.
    """
    pieces = [piece.strip() for piece in text.content.split(separator)][1:-1]
    whole = [piece for piece in pieces if piece]
    if not whole:
        raise EvaluationError(
            f"no document lies between two {separator!r} in {text.name}: expected the separator between documents"
        )
    return whole[:limit]
