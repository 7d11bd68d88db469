"""Where calibration tokens come from, by name: a text, the packaged mixture, the model itself, or chance."""

from gatenorm.calibration.samples import RANDOM, SELF, Calibration, Samples
from gatenorm.calibration.sources.generic_text import generic_samples
from gatenorm.calibration.sources.random_tokens import random_samples
from gatenorm.calibration.sources.self_text import opening_token, self_samples
from gatenorm.calibration.sources.text import text_samples
from gatenorm.errors import CalibrationError
from gatenorm.evaluation.core.text import GENERIC
from gatenorm.models.model import Model
from gatenorm.progress import Progress


def draw(calibration: Calibration, model: Model, progress: Progress | None = None) -> Samples:
    """The tokens of a calibration; only ``self`` runs the model.

    Args:
        progress: called with (tokens drawn, tokens to draw).

    Raises:
        CalibrationError: they cannot be had; a text needs a tokenizer.
        MissingExtraError: a hub data set needs ``datasets``.
    """
    tokenizer = model.tokenizer if model.has_tokenizer else None  # drawn tokens need none
    if calibration.source == RANDOM:
        return random_samples(calibration, model.config, opening_token(tokenizer, model.config))
    if calibration.source == SELF:
        return self_samples(calibration, model.module, tokenizer, progress)
    if tokenizer is None:
        raise CalibrationError(
            "no-tokenizer",
            f"is a text, and {model.name} has no tokenizer that can be read",
            field="calibration",
            given=calibration.source,
            hint="use random or self",
        )
    if calibration.source == GENERIC:
        return generic_samples(calibration, tokenizer, model.config)
    return text_samples(calibration, tokenizer, model.config)
