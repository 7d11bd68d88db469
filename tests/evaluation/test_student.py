"""Student's distribution against printed tables, against its density, and where two ways of reckoning meet."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gatenorm.evaluation.statistics import student
from gatenorm.evaluation.statistics.student import between, quantile


@pytest.mark.parametrize(
    ("degrees", "point"),
    [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (9, 2.262),
        (30, 2.042),
        (120, 1.980),
        (10**9, 1.960),
    ],
)
def test_points_are_those_of_printed_tables(degrees: int, point: float):
    assert quantile(degrees) == pytest.approx(point, abs=5e-4)


@pytest.mark.parametrize(("degrees", "point"), [(1, 63.657), (2, 9.925), (7, 3.499), (40, 2.704)])
def test_other_confidences_are_those_of_printed_tables(degrees: int, point: float):
    assert quantile(degrees, 0.99) == pytest.approx(point, abs=5e-4)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 8, 51, 200])
def test_probabilities_are_the_area_beneath_the_density(degrees: int):
    t = np.linspace(-1.7, 1.7, 20001)
    log = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    density = np.exp(log - (degrees + 1) / 2 * np.log1p(t * t / degrees))
    area = float(((density[1:] + density[:-1]) / 2).sum() * (t[1] - t[0]))
    assert between(1.7, degrees) == pytest.approx(area, abs=1e-8)


def test_series_and_expansion_meet():
    exact = [student._within(math.atan(quantile(n) / math.sqrt(n)), n) for n in (2000, 2001)]
    assert exact == pytest.approx([0.95, 0.95], abs=1e-12)
    assert quantile(1999) > quantile(2000) > quantile(2001) > 1.959963984540054


@pytest.mark.parametrize("given", [(0, 0.95), (3, 1.0), (3, 0.0)])
def test_what_has_no_point_is_refused(given: tuple[int, float]):
    with pytest.raises(ValueError, match="expected 1 or more"):
        quantile(*given)
