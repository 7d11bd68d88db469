"""The speed-up that removing attention could bring at most, and how much of it was reached.

    ideal = T / (T - sum over removed layers of A_l),    A_l = T x share_l

`T` is the baseline's time without any instrument. `share_l` is layer l's part of a run with hooks: projections, rotary
positions, attention, output projection, the norms that go with it, and its residual add. The ideal is what would be
left if nothing else cost anything: every other sublayer takes exactly as long as before.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from gatenorm.engines import Shares


def ideal_speedup(seconds: float, removed: float) -> float:
    """``T / (T - sum A_l)``.

    Args:
        seconds: ``T``, one pass of the baseline.
        removed: the part of it that the removed attentions take, in seconds.

    Raises:
        ValueError: the part is not smaller than the whole, or negative.
    """
    if not 0 <= removed < seconds:
        raise ValueError(f"attention of {removed:g} s cannot be removed from a pass of {seconds:g} s")
    return seconds / (seconds - removed)


def ideal_from_shares(seconds: float, shares: Sequence[Shares], phase: str, drop: Sequence[int]) -> float:
    """The ideal for layers ``drop``, with the median of their summed share over some profiled runs."""
    share = statistics.median(s.of(phase, drop) for s in shares)
    return ideal_speedup(seconds, seconds * share)
