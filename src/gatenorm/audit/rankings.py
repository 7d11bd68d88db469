"""Rankings of the layers, what they are held against, and which of them this model bears out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from gatenorm.audit.config import Config
from gatenorm.audit.orders import Order
from gatenorm.calibration.agreement import agree, label
from gatenorm.calibration.comparison import Comparison
from gatenorm.calibration.requests import requests
from gatenorm.calibration.sources import RANDOM, SELF, Calibration
from gatenorm.calibration.warnings import few_shared
from gatenorm.criteria import criterion
from gatenorm.families import Layout
from gatenorm.records import Scores

CHECK = "cosine"
RULE = (
    "borne out is the ranking whose choice at the budget nearest to 20% costs least loss on the first text; of equal "
    "ones the one asked for first; without a text, the paper's unless it shares fewer than half of its choice with "
    "every cosine, then cosine on self-sampled tokens"
)


@dataclass(frozen=True)
class Wanted:
    """A ranking to be made: a criterion, and its tokens where it looks at any; ``baseline`` marks what to beat."""

    criterion: str
    source: str | None = None
    seed: int = 0
    check: bool = False
    baseline: bool = False

    @property
    def name(self) -> str:
        """As :func:`gatenorm.calibration.agreement.label` will call its scores."""
        if self.source is not None:
            return f"{self.criterion}@{Path(self.source).name}"
        return f"{self.criterion}@{self.seed}" if self.seed and self.criterion == "random" else self.criterion


def wanted(config: Config, *, runs: bool) -> list[Wanted]:
    """All rankings: those asked for, the checks where the model can be run, and the baselines.

    Raises:
        CriterionError, CalibrationError: a criterion that does not exist or lacks its tokens.
    """
    asked = config.rankings
    how = Calibration(asked.calibration or "", asked.samples, asked.length, seed=config.run.seed)
    found = []
    for request in requests(asked.criteria, how):
        source = request.calibration.source if request.calibration else None
        found.append(Wanted(request.name, source, config.run.seed if criterion(request.name).seeded else 0))
    if runs:
        sources = [RANDOM, SELF, *([asked.calibration] if asked.calibration else [])]
        found += [Wanted(CHECK, source, check=True) for source in dict.fromkeys(sources)]
    found.append(Wanted("depth", baseline=True))
    found += [Wanted("random", seed=config.run.seed + n, baseline=True) for n in range(asked.random_draws)]
    kept: dict[str, Wanted] = {}
    for one in found:
        kept.setdefault(one.name, one)
    return list(kept.values())


def order_for(one: Wanted, layout: Layout, config: Config, content: str, threads: int) -> Order:
    """The order that makes a ranking."""
    asked = config.rankings
    length = min(asked.length, layout.context or asked.length)
    tokens = {"samples": asked.samples, "length": length, "seed": config.run.seed if one.source else one.seed}
    where = {"device": config.run.device, "dtype": config.run.dtype, "threads": threads}
    arguments = {
        "model": str(layout.checkpoint.directory),
        "criterion": one.criterion,
        "source": one.source,
        **tokens,
        **where,
    }
    key: dict[str, Any] = {"model": content, "criterion": one.criterion, "seed": one.seed}
    if one.source is not None:
        key |= {"source": source_key(one.source), **tokens, **where}
    return Order("score", f"scoring by {one.name}", arguments, key, like=f"score {one.name}")


def source_key(source: str) -> str:
    """What identifies tokens: the hash of a file, the name of whatever else they come from."""
    import hashlib

    path = Path(source.removeprefix("wikitext2=")).expanduser()
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else source


@dataclass(frozen=True)
class BorneOut:
    """The ranking that the model bears out, and why, in a sentence; ``losses`` in nats by ranking's name."""

    name: str
    why: str
    count: int
    losses: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {"ranking": self.name, "why": self.why, "count": self.count, "losses": dict(self.losses), "rule": RULE}


def borne_out(scores: Sequence[Scores], checks: Sequence[Scores], count: int, losses: Mapping[str, float]) -> BorneOut:
    """Which ranking to follow on this model; see ``RULE``.

    Args:
        scores: those asked for, the first of them the one under test.
        checks: the data-free cosines, and the one on calibration text.
        count: how many layers the judged choice removes.
        losses: of that choice on the first text by ranking's name; empty where there is no text.
    """
    first = label(scores[0])
    if losses:
        names = [label(s) for s in (*scores, *checks) if label(s) in losses]
        best = min(names, key=losses.__getitem__)
        told = ", ".join(f"{name} {losses[name]:.4f}" for name in dict.fromkeys(names))
        return BorneOut(best, f"loss with {count} removed, nats per token: {told}", count, dict(losses))
    doubted = bool(checks) and all(few_shared(scores[0], check, count) is not None for check in checks)
    on_self = next((label(c) for c in checks if c.calibration and c.calibration["source"] == SELF), first)
    why = (
        f"no text was given to judge by; {first} shares {'fewer' if doubted else 'no fewer'} than half of its choice "
        "with the cosines"
    )
    return BorneOut(on_self if doubted else first, why, count, {})


def comparison(layout: Layout, scores: Sequence[Scores]) -> Comparison | None:
    """How far all rankings agree with each other; ``None`` for one alone."""
    if len(scores) < 2:
        return None
    agreements = tuple(agree(a, b) for a, b in combinations(scores, 2))
    return Comparison(layout.identity(), tuple(scores), agreements, ())
