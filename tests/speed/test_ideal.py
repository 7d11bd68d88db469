"""The ideal speed-up, by hand-made numbers."""

from __future__ import annotations

import json

import pytest

from gatenorm.engines import Case, Shares
from gatenorm.records.serialization import from_json, to_json
from gatenorm.speed.measure.turns import Measured


def ideal(runs: list[Shares], phase: str, left: dict[int, float]) -> float:
    return Measured("baseline", Case(tokens=8), shares=runs).ideal(phase, left)


def test_the_ideal_by_hand():
    run = Shares((0, 1), (0.2, 0.3), (0.1, 0.1))
    assert ideal([run], "prefill", {0: 0.0}) == pytest.approx(1.25)
    assert ideal([run], "prefill", {}) == 1
    assert ideal([run], "prefill", {0: 2.25}) == pytest.approx(0.8)  # what takes its place is slower


def test_shares_of_the_removed_layers_are_summed_before_their_median_is_taken():
    rounds = [
        Shares((0, 1, 2), (0.10, 0.20, 0.30), (0.1, 0.1, 0.1)),
        Shares((0, 1, 2), (0.20, 0.10, 0.30), (0.1, 0.2, 0.1)),
        Shares((0, 1, 2), (0.05, 0.05, 0.30), (0.1, 0.3, 0.1)),
    ]
    # 0.3, 0.3 and 0.1 of the whole; the medians layer by layer would have summed to 0.2
    assert ideal(rounds, "prefill", {0: 0.0, 1: 0.0}) == pytest.approx(1 / 0.7)
    assert ideal(rounds, "decode", {1: 0.0}) == pytest.approx(1 / 0.8)
    assert ideal(rounds, "decode", {}) == 1
    # A tenth and half of the attentions' seconds are left: 0.1 x 0.9 + 0.2 x 0.5, 0.23 and 0.07 are saved.
    assert ideal(rounds, "prefill", {0: 0.1, 1: 0.5}) == pytest.approx(1 / (1 - 0.19))


def test_shares_travel_as_json():
    shares = Shares((0, 12), (0.25, 0.5), (0.125, 0.25))
    assert from_json(Shares, json.loads(json.dumps(to_json(shares))), "shares") == shares
