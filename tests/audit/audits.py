"""A small audit of the built-in model, and how two audits are compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gatenorm.audit.plan.config import Config, config_from

SMALL: dict[str, Any] = {
    "budgets": {"shares": [0.125, 0.8], "replace": ["remove"]},
    "rankings": {"criteria": ["gate-norm", "random"], "samples": 2, "length": 32, "random_draws": 0},
    "evaluation": {"stories_limit": 3, "zeroshot_limit": 2, "refusal_limit": 4, "retrieval_limit": 1},
    "speed": {"engines": []},
    "search": {"gate": "perplexity-rise"},
    "run": {"threads": 1},
}
# A pruned directory's config.json holds the plan, and that how long scoring took.
_TIMINGS = {"seconds", "began", "ended", "executor", "config_sha256"}


def small(**sections: Any) -> Config:
    """The small audit's configuration with some sections changed."""
    merged = {name: {**SMALL.get(name, {}), **values} for name, values in sections.items()}
    return config_from({**SMALL, **merged})


def figures(directory: Path) -> Any:
    """Everything in an audit's record but timings and the place where it lies."""
    text = (directory / "audit.json").read_text(encoding="utf-8")
    return without_timings(json.loads(text.replace(str(directory), "DIR")))


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two records differ, for whoever has to find out why."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        return [d for k in keys for d in differences(one.get(k), other.get(k), f"{where}.{k}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [d for n, (a, b) in enumerate(zip(one, other, strict=True)) for d in differences(a, b, f"{where}[{n}]")]
    return [] if one == other else [f"{where}: {one!r:.80} {other!r:.80}"]


def without_timings(given: Any) -> Any:
    """A record without what differs from run to run."""
    if isinstance(given, dict):
        return {k: without_timings(v) for k, v in given.items() if k not in _TIMINGS}
    if isinstance(given, list):
        return [without_timings(one) for one in given]
    return re.sub(r"\d+\.\d+ s\b", "", given) if isinstance(given, str) else given
