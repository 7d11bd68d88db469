"""Bootstrap intervals: against the normal interval where that is right, and of paired items."""

from __future__ import annotations

import numpy as np
import pytest

from gatenorm.evaluation.statistics import bootstrap as module
from gatenorm.evaluation.statistics.bootstrap import bootstrap


def test_a_large_sample_has_the_normal_interval():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = bootstrap(values.tolist())
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.stderr == pytest.approx(half / 1.96, rel=0.06)
    assert (found.low, found.high) == (
        pytest.approx(values.mean() - half, abs=0.1 * half),
        pytest.approx(values.mean() + half, abs=0.1 * half),
    )


def test_weights_count_items_as_often():
    weighted, repeated = bootstrap([1.0, 4.0], [3.0, 1.0]), bootstrap([1.0, 1.0, 1.0, 4.0])
    assert weighted.value == repeated.value == 1.75
    assert (weighted.low, weighted.high) == (1.0, 4.0)


def test_one_item_has_no_interval_and_equal_items_have_an_empty_one():
    assert bootstrap([2.0]).low is None
    assert (bootstrap([2.0, 2.0]).low, bootstrap([2.0, 2.0]).high) == (2.0, 2.0)


def test_many_items_are_drawn_in_parts_and_few_at_once_with_the_same_interval(monkeypatch: pytest.MonkeyPatch):
    values, weights = [1.0, 5.0, 2.0, 9.0, 4.0], [3.0, 1.0, 2.0, 1.0, 1.0]
    whole = bootstrap(values, weights)
    monkeypatch.setattr(module, "_AT_ONCE", 7 * len(values))
    assert bootstrap(values, weights) == whole


def test_it_is_the_same_every_time_and_covers_as_often_as_it_says():
    draw = np.random.default_rng(2)
    samples = draw.exponential(1.0, (300, 40))
    assert bootstrap(samples[0].tolist()) == bootstrap(samples[0].tolist())
    found = [bootstrap(sample.tolist(), seed=n) for n, sample in enumerate(samples)]
    covered = sum(one.low <= 1.0 <= one.high for one in found if one.low is not None and one.high is not None)
    assert 0.88 <= covered / 300 <= 0.98
