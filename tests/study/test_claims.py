"""What becomes of a claim: numbers, intervals, other figures, stand-ins."""

from __future__ import annotations

from typing import Any

import pytest

from gatenorm.records.evidence import Figure
from gatenorm.study.claims import judged
from gatenorm.study.recipe import Claim

FIGURES = {
    "rise/a/6": Figure(value=0.5, low=0.4, high=0.6),
    "rise/b/6": Figure(value=0.3, low=0.2, high=0.4),
    "perplexity/a/6": Figure(value=5.4),
}
# Item by item a is 0.2 above b, but for one item.
ITEMS = {"rise/a/6": ((0.4, 1.0), (0.6, 1.0), (0.5, 1.0)), "rise/b/6": ((0.2, 1.0), (0.4, 1.0), (0.3, 1.0))}


@pytest.mark.parametrize(
    ("how", "verdict"),
    [
        ({"figure": "rise/a/6", "below": 0.7}, "holds"),
        ({"figure": "rise/a/6", "below": 0.3}, "does not hold"),
        ({"figure": "rise/a/6", "below": 0.55}, "inconclusive"),
        ({"figure": "rise/a/6", "above": 0.3}, "holds"),
        ({"figure": "rise/a/6", "above": 0.7}, "does not hold"),
        ({"figure": "rise/a/6", "below": "rise/b/6"}, "does not hold"),
        ({"figure": "rise/b/6", "below": "rise/a/6"}, "holds"),
        ({"figure": "rise/b/6", "above": "rise/a/6"}, "does not hold"),
        ({"figure": "rise/a/6", "above": "rise/b/6", "by": 0.15}, "holds"),
        ({"figure": "rise/a/6", "above": "rise/b/6", "by": 0.25}, "does not hold"),
        ({"figure": "rise/b/6", "below": "rise/a/6", "by": 0.25}, "does not hold"),
        ({"figure": "rise/c/6", "below": 1.0}, "not measured"),
        ({"figure": "rise/a/6", "below": "rise/c/6"}, "not measured"),
        ({"figure": "perplexity/a/6", "below": 5.5}, "holds"),
        ({"figure": "perplexity/a/6", "near": 5.37, "tolerance": 0.02}, "holds"),
        ({"figure": "perplexity/a/6", "near": 5.37, "tolerance": 0.001}, "does not hold"),
    ],
)
def test_a_claim_has_one_verdict(how: dict[str, Any], verdict: str):
    claim = Claim(says="x", **how)
    assert judged(claim, FIGURES, ITEMS, stand_in=False).verdict == verdict


def test_a_difference_is_taken_item_by_item():
    """The intervals of both figures meet at 0.4; the paired difference does not come near zero."""
    found = judged(Claim(says="x", figure="rise/b/6", below="rise/a/6"), FIGURES, ITEMS, stand_in=False)
    assert found.why == "0.3 is below 0.5 (rise/a/6); the difference is -0.2 (95%: -0.2 to -0.2)"
    mixed = {**ITEMS, "rise/b/6": ((0.9, 1.0), (0.1, 1.0), (0.2, 1.0))}
    assert judged(Claim(says="x", figure="rise/b/6", below="rise/a/6"), FIGURES, mixed, False).verdict == "inconclusive"


def test_a_stand_in_is_not_compared_with_the_paper_s_numbers():
    claim = Claim(says="x", figure="perplexity/a/6", near=5.4)
    assert judged(claim, FIGURES, ITEMS, stand_in=True).verdict == "not comparable"
    # What compares two figures of one model is judged all the same.
    claim = Claim(says="x", figure="rise/b/6", below="rise/a/6")
    assert judged(claim, FIGURES, ITEMS, stand_in=True).verdict == "holds"


def test_nothing_is_judged_by_a_trial():
    claim = Claim(says="x", figure="rise/b/6", below="rise/a/6")
    assert judged(claim, FIGURES, ITEMS, trial=True).verdict == "not comparable"
    assert judged(Claim(says="x", figure="rise/c/6", below=1), FIGURES, ITEMS, trial=True).verdict == "not measured"


def test_an_interval_that_ends_at_zero_includes_it_and_equal_figures_have_none():
    figures = {"right/a/6": Figure(value=0.4, low=0.2, high=0.5), "right/b/6": Figure(value=0.5, low=0.5, high=0.5)}
    assert judged(Claim(says="x", figure="right/a/6", below=0.5), figures, {}).verdict == "inconclusive"
    assert judged(Claim(says="x", figure="right/b/6", below=0.5), figures, {}).verdict == "does not hold"


def test_the_least_and_the_largest_of_random_draws_are_no_interval():
    figures = {"rise/random/6": Figure(value=0.5, low=0.1, high=3.0)}
    found = judged(Claim(says="x", figure="rise/random/6", below=0.7), figures, {})
    assert (found.verdict, found.why) == ("holds", "0.5 is below 0.7")
