"""The text to train on, packed into sequences of one length, and the part of it that is only watched.

Which sequences a step sees is a function of the seed and the step's number alone: a training that was stopped goes on
with exactly those that it would have seen.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from msgspec.structs import asdict

from gatenorm.calibration.samples import HUB, Calibration
from gatenorm.errors import CalibrationError, EvaluationError, RecoveryError, fields_named, named
from gatenorm.evaluation.core.text import Text, read_text
from gatenorm.models.batches import check_vocabulary
from gatenorm.records.evidence import HeldOutData, TrainingData
from gatenorm.records.recovery_settings import Settings
from gatenorm.recovery.drawn_text import DrawnText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of the training text, where no other is named.
HELD_OUT_SHARE = 0.05
_PIECE = 1 << 15  # characters, into which a text without rows is cut
_AT_A_TIME = 64  # pieces that are tokenised together

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Corpus:
    """Sequences to train on ``[sequences, length]``, those to watch, and where they come from."""

    train: Tokens
    held_out: tuple[tuple[int, ...], ...]
    data: TrainingData

    def rows(self, seed: int, first: int, count: int) -> Tokens:
        """Sequences number ``first`` to ``first + count`` of an endless order: every pass is shuffled anew."""
        return self.train[self.numbers(seed, first, count)]

    def numbers(self, seed: int, first: int, count: int) -> list[int]:
        """Where those sequences stand in ``train``."""
        total = len(self.train)
        return [int(_order(seed, n // total, total)[n % total]) for n in range(first, first + count)]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, total: int) -> npt.NDArray[np.int64]:
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(total)


def read(
    source: str, settings: Settings, length: int, field: str = "text", *, processes: int = 1, called: str = "data"
) -> Text:
    """A text: a file as evaluations read it, or ``hub:NAME[:CONFIG[:SPLIT]]``.

    Of a data set of the hub, as many rows as the training can use.

    Args:
        processes: how many train together, each on its share.
        called: the parameter that names the source, for errors.

    Raises:
        RecoveryError: it cannot be read, or is empty.
        MissingExtraError: a parquet file or a data set of the hub needs ``datasets``.
    """
    try:
        with fields_named({"data": called, "calibration": called}):
            if not source.startswith(HUB):
                return read_text(source, field)
            from gatenorm.calibration.sources.text import from_hub

            return from_hub(Calibration(source, settings.steps * settings.sequences * processes, length))
    except (EvaluationError, CalibrationError) as error:
        raise error.as_kind(RecoveryError) from error


def split(text: Text) -> tuple[Text, Text]:
    """The text without its last part, and that part: the last 5% of its rows, or of its characters.

    Raises:
        RecoveryError: it has too few rows.
    """
    how = f"the last {HELD_OUT_SHARE:.0%} of {text.name}"
    if text.rows:
        cut = len(text.rows) - max(1, round(len(text.rows) * HELD_OUT_SHARE))
        if cut == 0:
            hint = f"give a text to check on as {named('held_out')}, or more rows"
            raise RecoveryError("text-too-short", f"{text.name} has one row", field="data", hint=hint)
        parts = ("\n\n".join(text.rows[:cut]), "\n\n".join(text.rows[cut:]))
        rows = (text.rows[:cut], text.rows[cut:])
    else:
        cut = round(len(text.content) * (1 - HELD_OUT_SHARE))
        # Behind a line's end, where one is near: no word is cut.
        cut = text.content.find("\n", cut, cut + _PIECE) + 1 or cut
        parts, rows = (text.content[:cut], text.content[cut:]), ((), ())
    return (
        replace(text, content=parts[0], rows=rows[0], protocol=f"{text.protocol}, without {how}"),
        Text(how, parts[1], hashlib.sha256(parts[1].encode()).hexdigest(), f"{text.protocol}, {how}", rows[1]),
    )


def pack(
    tokenizer: PreTrainedTokenizerBase,
    text: Text,
    held_out: Text,
    settings: Settings,
    length: int,
    vocabulary: int,
    sequences: int,
) -> Corpus:
    """Tokenise both texts and cut them into sequences, without padding and without overlap.

    Rows stand behind each other with the end token after each; the end of one that reaches beyond its sequence is
    dropped where it would not fill another, so that sequences begin where rows do. A plain text is tokenised in pieces.
    The pieces of the training text are taken in an order drawn by the seed until there are ``sequences``, as many as
    the training asks for: of a larger text no more is tokenised. The sequences to watch lie evenly over their text.

    Raises:
        RecoveryError: a text is too short, or has tokens outside the vocabulary.
    """
    pieces = _pieces(text)
    random.Random(settings.seed).shuffle(pieces)
    end = tokenizer.eos_token_id if text.rows else None
    train = _cut(tokenizer, pieces, end, length, sequences)
    least = settings.sequences
    if len(train) < least:
        raise RecoveryError(
            "text-too-short",
            f"{text.name} is too short to train on: {len(train)} sequences of {length} tokens, one step takes {least}",
            field="data",
            hint=f"give more text, a smaller {named('batch')} or a shorter {named('length')}",
        )
    watched = windows(tokenizer, held_out, length, settings.watch_windows)
    try:
        check_vocabulary([[int(train.max()), *(max(window) for window in watched)]], vocabulary)
    except EvaluationError as error:
        raise error.as_kind(RecoveryError) from error
    data = TrainingData(
        **asdict(text.identity()),
        text=text.protocol,
        sequences=len(train),
        length=length,
        held_out=HeldOutData(**asdict(held_out.identity()), text=held_out.protocol, windows=len(watched)),
        self_text=text.self_text if isinstance(text, DrawnText) else None,
    )
    return Corpus(train, watched, data)


def windows(tokenizer: PreTrainedTokenizerBase, text: Text, length: int, count: int) -> tuple[tuple[int, ...], ...]:
    """At most ``count`` sequences that lie evenly over a text, cut as those to train on are.

    Raises:
        RecoveryError: there is none.
    """
    cut = _cut(tokenizer, _pieces(text), tokenizer.eos_token_id if text.rows else None, length, None)
    if not len(cut):
        problem = f"{text.name} is too short to watch: it has fewer than {length} tokens"
        hint = f"give more text, {named('held_out')}, or a shorter {named('length')}"
        raise RecoveryError("text-too-short", problem, field="held_out", hint=hint)
    chosen = np.linspace(0, len(cut) - 1, min(count, len(cut))).round().astype(int)
    return tuple(tuple(map(int, cut[n])) for n in chosen)


def _pieces(text: Text) -> list[str]:
    if text.rows:
        return [row for row in text.rows if row.strip()]
    content, pieces, begin = text.content, [], 0
    while begin < len(content):
        # Behind a line's end or a space: a piece must not begin inside a word.
        end = begin + _PIECE
        for mark in ("\n", " "):
            at = content.find(mark, end, end + _PIECE)
            if at >= 0:
                end = at + (mark == "\n")
                break
        pieces.append(content[begin:end])
        begin = end
    return pieces


def _cut(
    tokenizer: PreTrainedTokenizerBase, pieces: Sequence[str], end: int | None, length: int, sequences: int | None
) -> Tokens:
    """``[sequences, length]`` token ids out of the pieces, of which no more are looked at than are needed.

    With an end token, pieces are documents of their own: what is left of one at a sequence's end is dropped where it
    would not fill another, so that sequences begin where documents do.
    """
    cut: list[list[int]] = []
    open_one: list[int] = []
    for begin in range(0, len(pieces), _AT_A_TIME):
        if sequences is not None and len(cut) >= sequences:
            break
        batch = list(pieces[begin : begin + _AT_A_TIME])
        for ids in tokenizer(batch, verbose=False, add_special_tokens=False)["input_ids"]:
            rest = list(ids) if end is None else [*ids, end]
            while len(open_one) + len(rest) >= length:
                space = length - len(open_one)
                cut.append(open_one + rest[:space])
                open_one, rest = [], rest[space:]
                if end is not None and len(rest) < length:
                    rest = []
            open_one += rest
    return np.asarray(cut[:sequences], np.int32).reshape(-1, length)
