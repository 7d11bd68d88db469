"""Figures as people read them."""

from __future__ import annotations

import pytest

from gatenorm.records.audit import PASSES, GateResult
from gatenorm.report.gate_figures import amount, figure, interval


@pytest.mark.parametrize(
    ("value", "unit", "sign", "text"),
    [
        (1.187, "x", False, "1.19x"),
        (1157.3, "%", True, "+1,157%"),
        (9.571, "%", True, "+9.57%"),
        (0.0, "points", True, "+0 points"),
        (-1.0, "%", True, "-1%"),
        (1.0, "items", False, "1 item"),
        (4.0, "items", False, "4 items"),
        (0.0231, "nats", False, "0.0231 nats"),
    ],
)
def test_amounts(value: float, unit: str, sign: bool, text: str):
    assert amount(value, unit, sign) == text


@pytest.mark.parametrize(
    ("value", "unit", "limit", "text"),
    [
        (1.0198, "x", 1.02, "1.0198x"),
        (1.02, "x", 1.02, "1.02x"),
        (1.15, "x", 1.02, "1.15x"),
        (2.0004, "%", 2.0, "2.0004%"),
        (6.001, "%", 6.0, "6.001%"),
        (1000.4, "%", 1000.0, "1,000.4%"),
    ],
)
def test_as_many_digits_as_show_the_side_of_the_limit(value: float, unit: str, limit: float, text: str):
    assert amount(value, unit, beside=limit) == text


def test_changes_have_signs_and_the_rest_has_none():
    def gate(unit: str, value: float | None) -> GateResult:
        return GateResult(
            gate="gate",
            limit=2.0,
            unit=unit,
            value=value,
            outcome=PASSES,
            detail="",
            reason="",
            low=value and value - 1,
            high=value and value + 1,
        )

    assert (figure(gate("%", 1.5)), interval(gate("%", 1.5))) == ("+1.5%", "+0.5% to +2.5%")
    assert (figure(gate("points", 1.0)), interval(gate("points", 0.5))) == (
        "1 point lost",
        "0.5 points gained to 1.5 points lost",
    )
    assert figure(gate("points", -5.36)) == "5.36 points gained"
    assert figure(gate("points", 0.0)) == "0 points"
    assert (figure(gate("x", 1.5)), interval(gate("x", 1.5))) == ("1.50x", "0.50x to 2.50x")
    assert (figure(gate("items", None)), interval(gate("items", None))) == ("not measured", "")
