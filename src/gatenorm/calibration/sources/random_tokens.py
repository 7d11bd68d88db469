"""Tokens that chance draws from the vocabulary."""

import random
from typing import Any

from gatenorm.calibration.samples import RANDOM, Calibration, Samples


def random_samples(calibration: Calibration, config: Any, opening: int | None) -> Samples:
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
    return Samples.of(sequences, {"source": RANDOM, "seed": calibration.seed, "bos": bool(first)}, calibration)
