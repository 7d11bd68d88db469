"""Where calibration tokens come from, by name: a text, the packaged mixture, the model itself, or chance."""

import random
from typing import Any

from gatenorm.calibration.samples import RANDOM, SELF, Calibration, CalibrationSamples
from gatenorm.calibration.sources.generic_text import generic_samples
from gatenorm.calibration.sources.self_text import opening_token, self_samples
from gatenorm.calibration.sources.text import text_samples
from gatenorm.errors import CalibrationError
from gatenorm.evaluation.core.text import GENERIC
from gatenorm.models.model import Model
from gatenorm.progress import Progress


def draw(calibration: Calibration, model: Model, progress: Progress | None = None) -> CalibrationSamples:
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
        problem = f"is a text, and {model.name} has no tokenizer that can be read"
        hint = "use random or self"
        raise CalibrationError("no-tokenizer", problem, field="calibration", given=calibration.source, hint=hint)
    if calibration.source == GENERIC:
        return generic_samples(calibration, tokenizer, model.config)
    return text_samples(calibration, tokenizer, model.config)


def random_samples(calibration: Calibration, config: Any, opening: int | None) -> CalibrationSamples:
    """Tokens drawn uniformly from the vocabulary, behind ``opening`` where the tokenizer puts one in front.

    The draw depends on the seed and the vocabulary's size only, on every machine and version the same.

    Raises:
        CalibrationError: samples longer than the model takes.
    """
    calibration.check_length(config)
    draw = random.Random(calibration.seed)  # `random()` is the method whose sequence Python promises to keep
    first = [] if opening is None else [opening]
    sequences = [
        first + [int(draw.random() * config.vocab_size) for _ in range(calibration.length - len(first))]
        for _ in range(calibration.samples)
    ]
    return CalibrationSamples.of(sequences, calibration, bos=bool(first))
