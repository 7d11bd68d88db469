"""A family: Llama under another ``model_type``."""

from __future__ import annotations

import json
from pathlib import Path

FAMILY = json.loads(Path(__file__).with_name("example-llama.json").read_text(encoding="utf-8"))
