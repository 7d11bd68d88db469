"""Calibration tokens: which are asked for, and the sequences that came of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gatenorm.errors import CalibrationError, named
from gatenorm.evaluation.core.text import GENERIC
from gatenorm.records.calibration import CalibrationTokens
from gatenorm.records.evidence import Data, TextProtocol
from gatenorm.records.self_text import SelfText

SELF, RANDOM, HUB = "self", "random", "hub:"
# Sources that need nobody's data: no separator cuts them into documents.
DATA_FREE = (SELF, RANDOM, GENERIC)
# Windows or documents, and tokens of each, where nobody says how many.
SAMPLES, LENGTH = 32, 256
# In a pass, where the calibration does not say how many samples.
_TOKENS = 4096


@dataclass(frozen=True)
class Sampling:
    """How a model writes text of its own.

    Attributes:
        temperature: logits are divided by it.
        top_p: tokens are drawn from the smallest set of likely ones that holds this share of the probability.
        chat: whether a model whose tokenizer has a chat template writes turns of a chat; otherwise it goes on from the
            token that texts begin with.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    chat: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            given, code = f"{self.temperature:g}", "temperature-out-of-range"
            raise CalibrationError.out_of_range("self_temperature", given, "more than 0", code)
        if not 0 < self.top_p <= 1:
            given, code = f"{self.top_p:g}", "top-p-out-of-range"
            raise CalibrationError.out_of_range("self_top_p", given, "more than 0, at most 1", code)


@dataclass(frozen=True)
class Calibration:
    """Which tokens a criterion looks at.

    ``source`` (empty: none yet) is a text file (or ``wikitext2``, ``wikitext2=FILE``), ``self`` for text that the model
    writes itself, ``random`` for tokens drawn uniformly from the vocabulary, ``generic`` for the packaged mixture
    of public-domain texts, or ``hub:NAME[:CONFIG[:SPLIT]]`` for
    a data set of the hub with a column ``text``. ``samples`` windows of ``length`` tokens are taken from the front of a
    text; with a ``separator``, that many documents, each cut at ``length`` and padded in its batch. ``seed`` is that of
    ``self`` and ``random``; ``batch_size`` counts samples, and decides what ``self`` draws; ``sampling`` says how.
    """

    source: str
    samples: int = SAMPLES
    length: int = LENGTH
    separator: str | None = None
    seed: int = 0
    batch_size: int | None = None
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        for what, given, least in (("samples", self.samples, 1), ("length", self.length, 2)):
            if given < least:
                raise CalibrationError(
                    f"{what}-out-of-range", "is too few", field=what, given=given, expected=f"{least} or more"
                )
        if self.separator == "":
            raise CalibrationError(
                "documents-empty", "is empty", field="documents", expected="a separator, such as '<|endoftext|>'"
            )
        if self.source in DATA_FREE and self.separator is not None:
            hint = f"leave it out with {named('calibration')} {self.source}"
            raise CalibrationError("documents-unused", "is about a text", field="documents", hint=hint)

    @property
    def drawn(self) -> bool:
        """Whether the tokens are drawn, so that a seed decides them."""
        return self.source in (SELF, RANDOM)

    def check_length(self, config: Any) -> None:
        """Raise CalibrationError for windows that are longer than the model's input."""
        longest = getattr(config, "max_position_embeddings", None)
        if longest and self.length > longest:
            raise CalibrationError(
                "length-too-long", f"is longer than the model's {longest} positions", field="length", given=self.length
            )


def with_source(calibration: Calibration, source: str) -> Calibration:
    """The same calibration on other tokens; what is about texts alone is left out where tokens are drawn."""
    return replace(calibration, source=source, separator=None if source in DATA_FREE else calibration.separator)


@dataclass(frozen=True)
class Samples:
    """Token sequences, of which ``batch_size`` are run at a time; by default as many as fit into a pass."""

    sequences: tuple[tuple[int, ...], ...]
    batch_size: int | None = None

    @property
    def tokens(self) -> int:
        return sum(map(len, self.sequences))

    @property
    def predicted(self) -> int:
        """Tokens that have others in front of them."""
        return self.tokens - len(self.sequences)


@dataclass(frozen=True)
class CalibrationSamples(Samples):
    """The sequences that came of a calibration, and how they came about."""

    protocol: CalibrationTokens = field(kw_only=True)

    @classmethod
    def of(
        cls,
        sequences: Iterable[Sequence[int]],
        calibration: Calibration,
        *,
        bos: bool = False,
        batch_size: int | None = None,
        data: Data | None = None,
        text: TextProtocol | None = None,
        self_text: SelfText | None = None,
    ) -> CalibrationSamples:
        """The samples that were asked for; what else is given goes into their protocol."""
        kept = tuple(tuple(s) for s in sequences)
        protocol = CalibrationTokens(
            source=calibration.source,
            samples=len(kept),
            length=calibration.length,
            tokens=sum(map(len, kept)),
            seed=calibration.seed if calibration.drawn else None,
            bos=bos,
            batch_size=batch_size,
            data=data,
            text=text,
            self_text=self_text,
        )
        return cls(kept, calibration.batch_size, protocol=protocol)


def batches(samples: Samples) -> Iterator[Sequence[Sequence[int]]]:
    """Samples of like length together, as many as the calibration says, or as fit into a pass."""
    ordered = sorted(samples.sequences, key=len, reverse=True)
    while ordered:
        count = samples.batch_size or max(1, _TOKENS // len(ordered[0]))
        yield ordered[:count]
        ordered = ordered[count:]
