"""Windows of the packaged mixture of public-domain texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gatenorm.calibration.samples import Calibration, CalibrationSamples
from gatenorm.calibration.sources.text import in_our_words
from gatenorm.errors import CalibrationError, named
from gatenorm.evaluation.core.generic import documents, mixture_sha256
from gatenorm.evaluation.core.text import GENERIC
from gatenorm.models.batches import check_vocabulary
from gatenorm.records.evidence import Data

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def generic_samples(
    calibration: Calibration, tokenizer: PreTrainedTokenizerBase, config: Any, *, fewer: bool = False
) -> CalibrationSamples:
    """Windows of the packaged mixture: the first of every document in order, then the second of every one, and so on.

    Every window so begins as the document does or where its last one ended, and kinds of text take turns.

    Args:
        fewer: take what there is where the mixture holds fewer windows than are asked for.

    Raises:
        CalibrationError: the mixture holds fewer windows, they are longer than the model takes, or a token lies outside
            the vocabulary.
    """
    calibration.check_length(config)
    sequences: list[list[int]] = []
    for window in _windows(tokenizer, calibration.length):
        if len(sequences) == calibration.samples:
            break
        sequences.append(window)
    found = len(sequences)
    if found < (1 if fewer else calibration.samples):
        problem = f"holds {found} windows of {calibration.length} tokens"
        expected = f"{found} or fewer with {named('calibration')} {GENERIC}"
        raise CalibrationError("data-too-short", problem, field="samples", given=calibration.samples, expected=expected)
    with in_our_words():
        check_vocabulary(sequences, config.vocab_size)
    return CalibrationSamples.of(sequences, calibration, data=Data(name=GENERIC, sha256=mixture_sha256()))


def _windows(tokenizer: PreTrainedTokenizerBase, length: int) -> Iterator[list[int]]:
    encoded: list[list[int]] = []
    for document in documents():
        encoded.append(list(tokenizer(document.text, verbose=False)["input_ids"]))
        if len(encoded[-1]) >= length:
            yield encoded[-1][:length]
    for begin in range(length, max(map(len, encoded)), length):
        yield from (ids[begin : begin + length] for ids in encoded if len(ids) >= begin + length)
