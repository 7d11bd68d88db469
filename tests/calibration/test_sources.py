"""What texts are refused as calibration, whichever source they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatenorm.calibration.samples import Calibration
from gatenorm.calibration.sources.generic_text import generic_samples
from gatenorm.calibration.sources.text import text_samples
from gatenorm.errors import CalibrationError
from tests.errors import refused


class Letters:
    """A tokenizer of another model: a token for each character, of which the model knows 50."""

    bos_token_id = eos_token_id = pad_token_id = None

    def __call__(self, text: str | list[str], **_: Any) -> dict[str, Any]:
        ids = [[ord(c) for c in one] for one in ([text] if isinstance(text, str) else text)]
        return {"input_ids": ids[0] if isinstance(text, str) else ids}


class Config:
    vocab_size = 50
    max_position_embeddings = 64


@pytest.mark.parametrize("source", ["generic", "file"])
def test_tokens_outside_of_the_vocabulary(source: str, tmp_path: Path):
    path = tmp_path / "text.txt"
    path.write_text("The tokenizer is that of another model." * 10)
    calibration = Calibration("generic" if source == "generic" else str(path), 2, 16)
    make = generic_samples if source == "generic" else text_samples
    with refused("token-outside-vocabulary", "", CalibrationError):
        make(calibration, Letters(), Config())  # type: ignore[arg-type]
