"""Whether what a model wrote is text: figures that need no reader, beside those of text that is known to be one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gatenorm.calibration.samples import Calibration
from gatenorm.calibration.sources.generic_text import generic_samples
from gatenorm.errors import CalibrationError
from gatenorm.evaluation.core.text import GENERIC
from gatenorm.models.forward import token_losses
from gatenorm.records.self_text import TextFigures

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_RUN = 4
# Windows of the mixture, which are run four at a time.
_WINDOWS, _ROWS = 16, 4


def text_figures(sequences: Sequence[Sequence[int]], nll: float) -> TextFigures:
    """The figures of samples, of which ``nll`` is known already; means over the samples."""
    repeated = distinct = 0.0
    for ids in sequences:
        runs = [tuple(ids[at : at + _RUN]) for at in range(len(ids) - _RUN + 1)]
        repeated += 1 - len(set(runs)) / len(runs) if runs else 0.0
        distinct += len(set(ids)) / len(ids)
    return TextFigures(nll=nll, repeated=repeated / len(sequences), distinct=distinct / len(sequences))


def generic_figures(model: Any, tokenizer: PreTrainedTokenizerBase | None, length: int) -> TextFigures | None:
    """The figures of 16 windows of the packaged mixture under the same model; ``None`` where there are none.

    Raises:
        EvaluationError: logits that are not finite.
    """
    if tokenizer is None:
        return None
    try:
        samples = generic_samples(Calibration(GENERIC, _WINDOWS, length), tokenizer, model.config, fewer=True)
    except CalibrationError:  # windows longer than its documents, or a tokenizer that is not the model's
        return None
    windows = samples.sequences
    losses = [row for at in range(0, len(windows), _ROWS) for row in token_losses(model, windows[at : at + _ROWS])]
    return text_figures(windows, float(sum(row.sum() for row in losses)) / sum(map(len, losses)))
