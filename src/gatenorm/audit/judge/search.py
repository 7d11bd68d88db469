"""The largest budget that passes a gate, by bisection over a ranking.

A ranking's choices are nested, so what a larger budget costs is taken to be no less than what a smaller one does. Then
``ceil(log2(n + 1))`` measurements find the border among ``n`` budgets. Where the figure does not grow, the border found
is one of several; every measurement is told.
"""

from collections.abc import Callable

from gatenorm.records.audit import PASSES, GateResult, Probe

ASSUMPTION = "a larger budget of the same ranking costs no less than a smaller one"


def largest(most: int, probe: Callable[[int], GateResult]) -> tuple[int, tuple[Probe, ...]]:
    """The largest number of removals that passes, and every one that was measured.

    Bisects between 0, which removes nothing and passes, and ``most``.
    """
    low, high = 0, most + 1
    probes = []
    while high - low > 1:
        middle = (low + high) // 2
        result = probe(middle)
        probes.append(Probe(removed=middle, gate=result))
        if result.outcome == PASSES:
            low = middle
        else:
            high = middle
    return low, tuple(probes)
