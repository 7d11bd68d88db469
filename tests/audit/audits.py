"""A small audit of the built-in model, and how two audits are compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gatenorm.audit.config import Config, config_from

SMALL: dict[str, Any] = {
    "budgets": {"shares": [0.125, 0.8]},
    "rankings": {"criteria": ["gate-norm", "random"], "samples": 2, "length": 32, "random_draws": 0},
    "evaluation": {"stories_limit": 3, "zeroshot_limit": 2, "refusal_limit": 4, "retrieval_limit": 1},
    "speed": {"engines": []},
    "search": {"gate": "perplexity-rise"},
    "run": {"threads": 1},
}
_TIMINGS = {"seconds", "began", "ended", "executor"}


def small(**sections: Any) -> Config:
    """The small audit's configuration with some sections changed."""
    merged = {name: {**SMALL.get(name, {}), **values} for name, values in sections.items()}
    return config_from({**SMALL, **merged})


def figures(directory: Path) -> Any:
    """Everything in an audit's record but timings and the place where it lies."""
    text = (directory / "audit.json").read_text(encoding="utf-8")
    return _without_timings(json.loads(text.replace(str(directory), "DIR")))


def _without_timings(given: Any) -> Any:
    if isinstance(given, dict):
        return {k: _without_timings(v) for k, v in given.items() if k not in _TIMINGS}
    if isinstance(given, list):
        return [_without_timings(one) for one in given]
    return re.sub(r"\d+\.\d+ s\b", "", given) if isinstance(given, str) else given
