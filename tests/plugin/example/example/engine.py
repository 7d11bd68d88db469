"""An engine: transformers under another name."""

from __future__ import annotations

from gatenorm.engines.transformers import Transformers


class Example(Transformers):
    """Directories in transformers."""


ENGINE = Example
