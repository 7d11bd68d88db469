"""Student's t distribution, as far as intervals need it: what a mean may lie off by when its spread is estimated too.

With few items the spread itself is uncertain: ``mean +- 1.96 standard errors`` holds the truth of two items in 70% of
cases, not in 95%.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

# From here on the expansion in powers of 1 / degrees is as exact as floating point.
_MANY = 2000


@cache
def quantile(degrees: int, confidence: float = 0.95) -> float:
    """The ``t`` with ``P(-t < T < t) = confidence`` for ``T`` of Student's distribution with that many degrees.

    Up to some thousand degrees :func:`between` is inverted by bisection; above, the expansion of Fisher and Cornish is
    used (Abramowitz and Stegun 1964, 26.7.5).

    Raises:
        ValueError: no degrees of freedom, or a confidence that is not between 0 and 1.
    """
    if degrees < 1 or not 0 < confidence < 1:
        raise ValueError(f"{degrees} degrees, confidence {confidence}: expected 1 or more, and between 0 and 1")
    if degrees >= _MANY:
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        powers = (
            (z**3 + z) / 4,
            (5 * z**5 + 16 * z**3 + 3 * z) / 96,
            (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        )
        return z + math.fsum(term / degrees ** (n + 1) for n, term in enumerate(powers))
    # In the angle the search has two finite ends, whatever the degrees.
    low, high = 0.0, math.pi / 2
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return math.sqrt(degrees) * math.tan(middle)
        if _within(middle, degrees) < confidence:
            low = middle
        else:
            high = middle


def between(t: float, degrees: int) -> float:
    """``P(-t < T < t)`` for whole degrees of freedom, by the finite series (Abramowitz and Stegun, 26.7.3, 26.7.4)."""
    return _within(math.atan(t / math.sqrt(degrees)), degrees)


def _within(angle: float, degrees: int) -> float:
    """The probability up to ``t = sqrt(degrees) tan(angle)``.

    Odd degrees: ``2/pi (a + sin a (cos a + 2/3 cos^3 a + ... ))`` up to ``cos^(degrees - 2)``; even ones: ``sin a (1 +
    1/2 cos^2 a + (1 3)/(2 4) cos^4 a + ...)``, as far.
    """
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    terms, term = [], cosine if odd else 1.0
    for power in range(2 + odd, degrees + 1, 2):
        terms.append(term)
        term *= cosine * cosine * (power - 1) / power
    total = sine * math.fsum(terms)
    return 2 / math.pi * (angle + total) if odd else total
