"""The largest budget that passes a gate, by bisection over a ranking.

A ranking's choices are nested, so what a larger budget costs is taken to be no less than what a smaller one does. Then
``ceil(log2(n + 1))`` measurements find the border among ``n`` budgets. Where the figure does not grow, the border found
is one of several; every measurement is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gatenorm.records import to_json
from gatenorm.records.audit import PASSES, GateResult

ASSUMPTION = "a larger budget of the same ranking costs no less than a smaller one"


@dataclass(frozen=True)
class Found:
    """The largest number of removals that passes (0: none does), and what the gate said of every one measured."""

    count: int
    probes: tuple[tuple[int, GateResult], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "found": self.count,
            "assumption": ASSUMPTION,
            "probes": [{"removed": count, **to_json(result)} for count, result in self.probes],
        }


def largest(most: int, probe: Callable[[int], GateResult]) -> Found:
    """Bisect between 0, which removes nothing and passes, and ``most``."""
    low, high = 0, most + 1
    probes = []
    while high - low > 1:
        middle = (low + high) // 2
        result = probe(middle)
        probes.append((middle, result))
        if result.outcome == PASSES:
            low = middle
        else:
            high = middle
    return Found(low, tuple(probes))
