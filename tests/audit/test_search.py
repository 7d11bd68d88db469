"""Bisection: the border, in as few measurements as it takes."""

from __future__ import annotations

import math

from hypothesis import given, strategies as st

from gatenorm.audit.judge.search import largest
from gatenorm.records.audit import FAILS, INCONCLUSIVE, PASSES, GateResult


def result(outcome: str) -> GateResult:
    return GateResult(gate="perplexity-rise", limit=2.0, unit="%", value=1.0, outcome=outcome, detail="", reason="")


@given(st.integers(1, 200), st.integers(0, 200))
def test_the_border_is_found_with_few_measurements(most: int, border: int):
    asked = []

    def probe(count: int) -> GateResult:
        asked.append(count)
        return result(PASSES if count <= border else FAILS)

    found, probes = largest(most, probe)
    assert found == min(border, most)
    assert len(asked) <= math.ceil(math.log2(most + 1))
    assert len(set(asked)) == len(asked)
    assert [one.removed for one in probes] == asked


def test_what_is_not_proven_does_not_stand():
    found, probes = largest(3, lambda count: result(INCONCLUSIVE))
    assert found == 0
    assert probes[0].gate.outcome == INCONCLUSIVE
