"""``tokenizer.model`` files: the pieces of a SentencePiece model, read without its library.

Protocol buffers, of which four fields matter: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gatenorm.errors import OutputError
from gatenorm.files import LARGE, read_small

_BPE = 2
_IDENTITY = b"identity"


@dataclass(frozen=True)
class Piece:
    """One token; ``type`` is 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte, as in GGUF."""

    text: str
    score: float
    type: int


@dataclass(frozen=True)
class SentencePiece:
    """The pieces in the order of their ids, and whether a space is put before every text."""

    pieces: tuple[Piece, ...]
    space_first: bool


def read_sentencepiece(path: Path) -> SentencePiece:
    """The model in ``path``.

    Raises:
        OutputError: damaged, no BPE, or a normalisation that llama.cpp does not do.
    """
    try:
        fields = list(_fields(read_small(path, LARGE)))
        pieces = tuple(_piece(data) for number, data in fields if number == 1 and isinstance(data, bytes))
        trainer = _last(fields, 2)
        normaliser = _last(fields, 3)
    except (IndexError, ValueError, OSError, struct.error):
        raise OutputError("tokenizer-damaged", f"{path.name} is damaged: fetch it again") from None
    if not pieces:
        raise OutputError("tokenizer-damaged", f"{path.name} holds no pieces: fetch it again")
    if trainer.get(3, 1) != _BPE:
        raise OutputError(
            "tokenizer-type-unsupported", "its tokenizer is a SentencePiece model of another kind than BPE"
        )
    if normaliser.get(2) or normaliser.get(1, _IDENTITY) != _IDENTITY or normaliser.get(4, 1):
        raise OutputError(
            "normalizer-unsupported",
            "its SentencePiece tokenizer rewrites texts before cutting them, which llama.cpp does not",
        )
    return SentencePiece(pieces, bool(normaliser.get(3, 1)))


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    text, score, kind = fields.get(1, b""), fields.get(2, 0.0), fields.get(3, 1)
    if not (isinstance(text, bytes) and isinstance(score, float) and isinstance(kind, int) and 1 <= kind <= 6):
        raise ValueError("no piece")
    return Piece(text.decode("utf-8"), score, kind)


def _last(fields: list[tuple[int, bytes | int | float]], number: int) -> dict[int, bytes | int | float]:
    messages = [data for found, data in fields if found == number and isinstance(data, bytes)]
    return dict(_fields(messages[-1])) if messages else {}


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int | float]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            length, at = _varint(data, at)
            if length > len(data) - at:
                raise ValueError("cut short")
            yield number, data[at : at + length]
            at += length
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            yield number, struct.unpack("<d" if wire == 1 else "<f", data[at : at + size])[0]
            at += size
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("too long a number")
