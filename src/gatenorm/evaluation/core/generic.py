"""The packaged text, for work without data of one's own: a mixture of many kinds of public-domain text."""

import hashlib
import lzma
from importlib import resources
from typing import Literal

import msgspec

from gatenorm.records import Value

Kind = Literal[
    "encyclopaedic",
    "reports",
    "literature",
    "essays and letters",
    "dialogue",
    "code",
    "data",
    "how-to",
    "mathematics",
    "other languages",
]
DATA = resources.files("gatenorm.evaluation").joinpath("data")
_FILE = DATA.joinpath("generic.jsonl.xz")
# Characters of each document that evaluations leave to calibration. Of the tokenizers tried none makes fewer than 512
# tokens of them, so 520 windows of 256 tokens lie within.
FRONT = 3000


class Document(Value, frozen=True, kw_only=True):
    """One excerpt.

    Attributes:
        kind: what kind of text it is; each has a fixed share of the mixture.
        language: the code of a language (ISO 639-1), or the name of a programming or markup language.
        source: where it comes from; the table in ``data/generic.md`` states its author and terms under this name.
        text: 500 to 6,500 characters, cut at the end of a paragraph, statement or line, with a newline at the end.
    """

    kind: Kind
    language: str
    source: str
    text: str


def mixture_sha256() -> str:
    """The sha256 of the packaged file, for records."""
    return hashlib.sha256(_FILE.read_bytes()).hexdigest()


def documents() -> list[Document]:
    """Every document of the mixture, about 800,000 characters, the same on every machine.

    They are mixed: a stretch of 64 KB holds nearly every kind, in about its share, so the front of the list stands for
    the whole.
    """
    return msgspec.json.Decoder(Document).decode_lines(lzma.decompress(_FILE.read_bytes()))


def evaluation_text() -> str:
    """What stands behind the first :data:`FRONT` characters of every document, joined by two newlines.

    About 106,000 characters of 110 documents, which fits and rankings of the usual sizes have not seen.
    """
    return "\n\n".join(rest for document in documents() if (rest := document.text[FRONT:].strip()))
