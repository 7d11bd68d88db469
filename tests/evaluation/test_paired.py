"""Paired differences against plain reckonings, and against how often their intervals hold the truth."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from gatenorm.errors import EvaluationError
from gatenorm.evaluation.statistics.paired_statistics import (
    INTERVAL,
    Z,
    compare,
    exact,
    mean_figure,
    mean_with_error,
    median_interval,
    paired_means,
    paired_shares,
    t_quantile,
)
from gatenorm.records import Edits, ModelIdentity, to_json
from gatenorm.records.evidence import Data, Figure, Harness, TaskItem, evidence_from_json
from tests.errors import refused

MODEL = ModelIdentity(name="m", model_type="llama", layers=4, config_sha256="c", files={})


@pytest.mark.parametrize(
    ("degrees", "point"), [(1, 12.706), (2, 4.303), (5, 2.571), (30, 2.042), (120, 1.980), (10**9, 1.960)]
)
def test_points_of_students_distribution_are_those_of_printed_tables(degrees: int, point: float):
    assert t_quantile(degrees) == pytest.approx(point, abs=5e-4)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_shares_follow_their_formula(answers: list[tuple[bool, bool]]):
    first, second = [float(a) for a, _ in answers], [float(b) for _, b in answers]
    found = paired_shares(first, second)
    won = sum(b and not a for a, b in answers)
    lost = sum(a and not b for a, b in answers)
    n = len(answers)
    assert (found.won, found.lost, found.items) == (won, lost, n)
    assert found.difference == pytest.approx(float(np.mean(second) - np.mean(first)))
    p12, p21 = (won + 0.5) / (n + 2), (lost + 0.5) / (n + 2)
    half = Z * math.sqrt(((p12 + p21) - (p12 - p21) ** 2) / (n + 2))
    assert found.low == pytest.approx(max(-1, p12 - p21 - half))
    assert found.high == pytest.approx(min(1, p12 - p21 + half))


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_exact_test_counts_coins(won: int, lost: int):
    n = won + lost
    tail = sum(Fraction(math.comb(n, k), 2**n) for k in range(min(won, lost) + 1))
    assert exact(won, lost) == pytest.approx(float(min(Fraction(1), 2 * tail)))


@given(
    st.lists(
        st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.integers(1, 9)),
        min_size=2,
        max_size=30,
    )
)
def test_weighted_means_are_a_ratio_estimator(rows: list[tuple[float, float, int]]):
    a, b, w = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    found = paired_means(a.tolist(), b.tolist(), w.tolist())
    mean = (w * (b - a)).sum() / w.sum()
    residuals = w * ((b - a) - mean)
    error = math.sqrt(len(rows) / (len(rows) - 1) * (residuals**2).sum()) / w.sum()
    assert found.difference == pytest.approx(mean, abs=1e-9)
    assert found.high - found.difference == pytest.approx(t_quantile(len(rows) - 1) * error, abs=1e-9)
    assert mean_with_error((b - a).tolist(), w.tolist()) == pytest.approx((mean, error), abs=1e-9)


def test_equal_weights_give_the_usual_standard_error():
    draw = random.Random(3)
    a, b = [[draw.gauss(0, 1) for _ in range(40)] for _ in range(2)]
    found = paired_means(a, b)
    differences = np.array(b) - np.array(a)
    assert found.high - found.difference == pytest.approx(2.022691 * differences.std(ddof=1) / math.sqrt(40))
    assert mean_with_error(differences.tolist())[1] == pytest.approx(differences.std(ddof=1) / math.sqrt(40))


def test_intervals_of_shares_hold_the_truth_about_as_often_as_they_say():
    """200 draws of 80 items: 15% turn wrong, 5% turn right, a true difference of -0.1."""
    draw = random.Random(1)
    held = 0
    for _ in range(200):
        first = [float(draw.random() < 0.6) for _ in range(80)]
        second = [
            (float(draw.random() >= 0.15 / 0.6) if value else float(draw.random() < 0.05 / 0.4)) for value in first
        ]
        found = paired_shares(first, second)
        held += found.low <= -0.1 <= found.high
    assert 183 <= held <= 199


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_intervals_of_means_hold_the_truth_as_often_as_they_say_however_few_there_are(n: int):
    """Two items with 1.96 standard errors to both sides would hold it in 70 of 100."""
    draw = np.random.default_rng(n)
    found = [paired_means([0.0] * n, row) for row in draw.normal(0.3, 2.0, (4000, n)).tolist()]
    assert 0.94 <= np.mean([f.low <= 0.3 <= f.high for f in found]) <= 0.96
    assert "Student" in INTERVAL


def test_intervals_of_weighted_means_hold_the_truth_where_weights_go_with_values():
    """Items with more tokens lie higher: the mean by tokens is 7/6 where the plain one is 1."""
    draw = np.random.default_rng(5)
    held = 0
    for _ in range(2000):
        weights = draw.choice([10, 20, 30], 30).astype(float)
        values = weights / 20 + draw.normal(0, 0.2, 30)
        truth = (100 + 400 + 900) / 60 / 20
        mean, error = mean_with_error(values.tolist(), weights.tolist())
        half = t_quantile(29) * error
        held += mean - half <= truth <= mean + half
    assert 0.93 <= held / 2000 <= 0.965


def test_what_cannot_be_paired():
    with refused("not-paired", kind=EvaluationError):
        paired_shares([1.0], [])
    assert paired_means([1.0], [3.0]).high is None
    assert mean_with_error([2.0])[1] == math.inf
    assert mean_figure([1.0]) == Figure(value=1.0)
    assert mean_figure([1.0, 0.0]) == Figure(value=0.5, stderr=0.5)


def record(items: list[dict[str, object]], sha: str = "s", tokens: str = "") -> Harness:
    return Harness(
        name="t",
        metrics={},
        count=len(items),
        model=MODEL,
        edits=Edits.of("attention", [1]),
        data=Data(sha256=sha, tokens_sha256=tokens),
        seconds=1.0,
        items=tuple(TaskItem(**item) for item in items),
    )


def test_two_records_are_compared_item_by_item():
    before = [{"id": n, "metrics": {"acc": float(n < 3), "loss": float(n)}, "weight": 2} for n in range(4)]
    after = [{"id": n, "metrics": {"acc": float(n < 1), "loss": n + 1.0}, "weight": 2} for n in reversed(range(4))]
    found = compare(record(before), record(after))
    assert found is not None
    assert found.kind == "comparison"
    assert (found.of, found.task) == ("harness", "t")
    assert found.numbers()["acc_difference"] == -0.5
    assert (found.numbers()["acc_won"], found.numbers()["acc_lost"]) == (0, 2)
    assert found.numbers()["loss_difference"] == pytest.approx(1)
    assert found.numbers()["loss_low"] == pytest.approx(1)
    assert [(i.id, list(i.changed)) for i in found.items] == [(1, ["acc"]), (2, ["acc"])]
    assert evidence_from_json(to_json(found)) == found


def test_other_items_other_data_or_other_tokens_are_not_compared():
    one = [{"id": 0, "metrics": {"loss": 1.5}, "weight": 3}]
    assert compare(record(one), record([{**one[0], "id": 1}])) is None
    assert compare(record(one), record(one, sha="other")) is None
    assert compare(record(one), record([{**one[0], "weight": 4}])) is None
    assert compare(record([]), record([])) is None


def test_means_over_other_tokens_are_not_compared():
    """As many tokens in each window, and not the same ones."""
    items = [{"id": n, "metrics": {"nll": 1.0 + n}, "weight": 31} for n in range(3)]
    one, other = record(items), record(items)
    assert compare(one, other) is not None
    one, other = record(items, tokens="a"), record(items, tokens="b")
    assert compare(one, one) is not None
    assert compare(one, other) is None


def test_a_median_lies_between_its_ends_as_often_as_they_say():
    draw = np.random.default_rng(7)
    for n in (6, 9, 20):
        ends = [median_interval(list(rounds)) for rounds in draw.lognormal(0.0, 1.0, (4000, n))]
        assert np.mean([low <= 1.0 <= high for low, high in ends]) >= 0.945


def test_the_interval_of_a_median_leaves_out_as_many_as_it_may():
    values = [5.0, 1.0, 9.0, 3.0, 7.0, 2.0, 8.0, 4.0, 6.0]
    assert median_interval(values) == (2.0, 8.0)
    assert median_interval(values[:8]) == (1.0, 9.0)  # without the outermost it would hold in 93%
    assert median_interval(values[:5]) is None
    assert median_interval([]) is None
