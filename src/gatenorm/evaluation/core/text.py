"""Text to evaluate on, by protocol: as it stands, as WikiText-2 rows joined, as rows of a file, cut into documents."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gatenorm.errors import EvaluationError, named, needing, printable
from gatenorm.evaluation.core.generic import FRONT, evaluation_text, mixture_sha256
from gatenorm.files import open_regular, parse_json
from gatenorm.records.evidence import Data, TextProtocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")
WIKITEXT2, GENERIC = "wikitext2", "generic"
# Of a separator's place: every row of a structured file is a document.
ROWS = "rows"
LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet",)


@dataclass(frozen=True)
class Text:
    """A text and where it comes from; ``protocol`` says in words how it was put together.

    ``rows`` are the texts that a structured file holds one by one.
    """

    name: str
    content: str
    sha256: str
    protocol: str
    rows: tuple[str, ...] = ()

    def identity(self) -> Data:
        return Data(name=self.name, sha256=self.sha256, characters=len(self.content))


def about_tokens(characters: int) -> int:
    """How many tokens a text comes to where no tokenizer was read yet: English has about four characters in each."""
    return characters // 4 + 1


def data_error(code: str, problem: str, given: object = None, **more: Any) -> EvaluationError:
    """The error for data that are missing or do not serve; ``given`` is how they were named."""
    return EvaluationError(code, problem, field="data", given=given, **more)


def read_text(source: str, field: str = "text") -> Text:
    """The text that ``--data`` names.

    ``FILE`` is plain UTF-8 text as it stands; ``.jsonl`` and ``.parquet`` files hold a text in the field ``field`` of
    every row, and rows are joined by two newlines; ``wikitext2`` is the raw test split from the hub; ``wikitext2=FILE``
    the same from a local raw file: rows are lines, joined by two newlines as in the usual protocol; ``generic`` is the
    part of the packaged text that calibration leaves to evaluation.

    Raises:
        EvaluationError: no such file, not UTF-8, empty, or rows without that field.
        MissingExtraError: ``wikitext2`` without a file, or a parquet file, needs ``datasets``.
    """
    if source == WIKITEXT2:
        return _wikitext2_from_hub()
    if source == GENERIC:
        how = f"packaged public-domain text, behind the first {FRONT:,} characters of each document"
        return Text(GENERIC, evaluation_text(), mixture_sha256(), how)
    joined = source.startswith(WIKITEXT2 + "=")
    path = Path(source.removeprefix(WIKITEXT2 + "=") if joined else source).expanduser()
    raw = read_bytes(source, path)
    digest = hashlib.sha256(raw).hexdigest()
    if not joined and path.suffix.lower() in (*LINES, *PARQUET):
        rows = _parquet(source, path, field) if path.suffix.lower() in PARQUET else _lines(source, path, raw, field)
        content = "\n\n".join(rows)
        if not content.strip():
            raise data_error("data-empty", f"has no text in the field {field!r} of any row", source)
        return Text(
            printable(path.name), content, digest, f"field {field!r} of {len(rows)} rows, joined by two newlines", rows
        )
    content = _decode(source, raw)
    if not content.strip():
        raise data_error("data-empty", "is empty", source)
    if joined:
        content = "\n\n".join(wikitext_rows(content))
    how = "WikiText-2 raw, test split, rows joined by two newlines" if joined else "plain text as it stands"
    return Text(printable(path.name), content, digest, how)


def read_bytes(source: str, path: Path) -> bytes:
    """A file's bytes; ``source`` is how the user named it.

    Raises:
        EvaluationError: there is no such file, or it cannot be read.
    """
    if path == Path():  # nothing stands behind TASK= or wikitext2=
        raise data_error("data-missing", "names no file", source, expected="a path")
    try:
        with path.open("rb") if _is_handed_over(path) else open_regular(path) as file:
            return file.read()
    except FileNotFoundError:
        raise data_error(
            "data-missing",
            "does not exist" if str(path) == source else f"does not exist: no file {path}",
            source,
            expected="a text, .jsonl or .parquet file, generic, or wikitext2[=FILE]",
        ) from None
    except (OSError, ValueError) as error:
        why = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise data_error("data-unreadable", why, source) from None


def _is_handed_over(path: Path) -> bool:
    """Whether a shell opened it, as ``<(...)`` and ``/dev/stdin``: anything else must be a regular file."""
    return path == Path("/dev/stdin") or path.parent in (Path("/dev/fd"), Path("/proc/self/fd"))


def read_rows(source: str, path: Path, raw: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file, each with its line's number from 1, one at a time: they take much memory.

    Raises:
        EvaluationError: a line that is no JSON object, or no line at all.
    """
    empty = True
    for number, line in enumerate(_decode(source, raw).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line.encode())
        except ValueError as error:
            raise data_error("data-not-json", f"is not JSON in line {number} ({error})", source) from None
        if not isinstance(row, dict):
            raise data_error(
                "data-wrong", f"has {type(row).__name__} in line {number}", source, expected="a JSON object per line"
            )
        empty = False
        yield number, row
    if empty:
        raise data_error("data-empty", "is empty", source)


def wikitext_rows(raw: str) -> list[str]:
    """The rows of the hub's ``wikitext-2-raw-v1`` out of its raw file: a lone space is an empty row."""
    lines = raw.split("\n")
    if lines[-1] == "":
        lines.pop()
    return ["" if line == " " else line + "\n" for line in lines]


def chosen(parts: Sequence[T], limit: int | None, spread: bool) -> Sequence[T]:
    """The first ``limit`` parts; with ``spread`` the middle ones of so many equal stretches."""
    if not spread or limit is None or limit >= len(parts):
        return parts[:limit]
    return [parts[(2 * n + 1) * len(parts) // (2 * limit)] for n in range(limit)]


def documents(text: Text, separator: str, limit: int | None = None, spread: bool = False) -> list[str]:
    """The pieces between the separators of a text, stripped, empty ones left out; of them as :func:`chosen`.

    The separator ``rows`` takes every row of a structured file as a document, unchanged.

    Raises:
        EvaluationError: the text does not contain the separator, or nothing else.
    """
    if separator == ROWS and text.rows:
        return [*chosen([row for row in text.rows if row.strip()], limit, spread)]
    pieces = [stripped for piece in text.content.split(separator) if (stripped := piece.strip())]
    if not pieces or separator not in text.content:
        raise EvaluationError(
            "no-documents",
            f"does not separate any documents in {text.name}",
            field="documents",
            given=repr(separator),
            expected="a separator that occurs between documents, such as '<|endoftext|>'",
        )
    return [*chosen(pieces, limit, spread)]


def _decode(source: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise data_error(
            "data-not-utf8", f"is not UTF-8 at byte {error.start}", source, expected="plain text"
        ) from None


def _lines(source: str, path: Path, raw: bytes, field: str) -> tuple[str, ...]:
    rows = []
    for number, row in read_rows(source, path, raw):
        text = row.get(field)
        if not isinstance(text, str):
            raise data_error(
                "text-field-missing",
                f"has no text in a field {field!r} in line {number} (it has {_some(row)})",
                source,
                hint=f"name the field with {named('text_field')}"
                + (f", or judge replies with {named('tasks')} domain" if "prompt" in row else ""),
            )
        rows.append(text)
    return tuple(rows)


def _parquet(source: str, path: Path, field: str) -> tuple[str, ...]:
    with needing(f"{named('data')} {path.name}", "pyarrow (it comes with datasets)", "eval"):
        import pyarrow.parquet as parquet
        from pyarrow.lib import ArrowException
    try:
        known = parquet.ParquetFile(path)
        if field not in known.schema_arrow.names:
            raise data_error(
                "text-field-missing",
                f"has no column {field!r} (it has {_some(known.schema_arrow.names)})",
                source,
                hint=f"name the column with {named('text_field')}",
            )
        column = known.read(columns=[field]).column(0).to_pylist()
    except (ArrowException, OSError) as error:
        raise data_error("data-unreadable", f"is not a readable Parquet file ({error})", source) from None
    if not all(isinstance(text, str) for text in column):
        raise data_error("data-wrong", f"has something other than text in {field!r}", source)
    return tuple(column)


def _some(names: Any) -> str:
    return ", ".join(map(str, list(names)[:6])) or "nothing"


def _wikitext2_from_hub() -> Text:
    with needing(f"{named('data')} wikitext2 without a file", "datasets", "eval"):
        from datasets import load_dataset
    try:
        rows = load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1", split="test")["text"]
    except Exception as error:  # datasets lets through whatever its network layers raise
        raise data_error(
            "download-failed",
            f"could not be fetched ({type(error).__name__})",
            WIKITEXT2,
            hint=f"give the raw test file as {named('data')} wikitext2=FILE",
        ) from error
    content = "\n\n".join(rows)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Text(WIKITEXT2, content, digest, "WikiText-2 raw, test split, rows joined by two newlines")


def per_token(
    tokenizer: PreTrainedTokenizerBase, pieces: Sequence[str], described: TextProtocol
) -> tuple[float, float]:
    """Words between whitespace and UTF-8 bytes for each token of the text, or of the part that a limit leaves.

    Not a number where that part is not known: slow tokenizers do not say where a token ends. A word that is cut counts
    as one.

    Args:
        pieces: the text, or its documents.
        described: its ``text_tokens`` include special ones; ``tokens_read`` where a limit leaves out windows.
    """
    plain = described.text_tokens - len(pieces) * tokenizer.num_special_tokens_to_add()
    if described.tokens_read is not None:
        if not getattr(tokenizer, "is_fast", False):
            return math.nan, math.nan
        pieces, plain = _read(tokenizer, pieces[0], described)
    return sum(len(p.split()) for p in pieces) / plain, sum(len(p.encode()) for p in pieces) / plain


def _read(tokenizer: PreTrainedTokenizerBase, content: str, described: TextProtocol) -> tuple[list[str], int]:
    """What the tokens that were read stand for, and how many of them are not special."""
    encoded = tokenizer(content, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    spans = [slice(0, described.tokens_read)]
    if described.spread and described.window:
        begins = range(0, described.text_tokens - described.window + 1, described.window)
        spans = [slice(at, at + described.window) for at in chosen(begins, described.windows, spread=True)]
    places = [encoded["offset_mapping"][span] for span in spans]
    pieces = [content[own[0][0] : max(stop for _, stop in own)] for own in places]
    return pieces, sum(mask == 0 for span in spans for mask in encoded["special_tokens_mask"][span])
