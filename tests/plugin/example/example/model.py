"""A named model: the directory beside this file."""

from __future__ import annotations

from pathlib import Path

from gatenorm.models.named import NamedModel

MODEL = NamedModel(directory=Path(__file__).with_name("weights"))
