"""The speed-up that removing or replacing attention could bring at most, and how much of it was reached.

    ideal = T / (T - sum over edited layers of A_l (1 - left_l)),    A_l = T x share_l

`T` is the baseline's time without any instrument. `share_l` is layer l's part of a run with hooks: projections, rotary
positions, attention, output projection, the norms that go with it, and its residual add. `left_l` is the share of these
seconds that what takes the attention's place takes by the cost model: 0 for removal. The ideal is what would be left if
nothing else cost anything: every other sublayer takes exactly as long as before.
"""

import statistics
from collections.abc import Mapping, Sequence

from gatenorm.engines import Shares


def ideal_speedup(seconds: float, saved: float) -> float:
    """``T / (T - saved)``.

    Args:
        seconds: ``T``, one pass of the baseline.
        saved: the part of it that is saved, in seconds; negative where what takes attention's place is slower.

    Raises:
        ValueError: the part is not smaller than the whole.
    """
    if not saved < seconds:
        raise ValueError(f"{saved:g} s cannot be saved of a pass of {seconds:g} s")
    return seconds / (seconds - saved)


def ideal_from_shares(seconds: float, shares: Sequence[Shares], phase: str, left: Mapping[int, float]) -> float:
    """The ideal, with the median of what is saved over some profiled runs.

    Args:
        left: ``left_l`` by edited layer.
    """
    saved = statistics.median(
        sum(run.of(phase, [layer]) * (1 - part) for layer, part in left.items()) for run in shares
    )
    return ideal_speedup(seconds, seconds * saved)
