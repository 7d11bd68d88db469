"""Figures and names in words."""

from __future__ import annotations

from gatenorm.report.clean_text import clean
from gatenorm.report.page.wording import fixed, number, said


def test_numbers_in_words():
    assert number(None) == "–"
    assert number(float("inf")) == "∞"
    assert number(12.3456) == "12.35"
    assert number(12345.6) == "12,346"
    assert number(-0.00123) == "−0.00123"
    assert fixed(-0.04, 1, sign=True) == "0.0"
    assert fixed(1234.5, 1) == "1,234.5"
    assert said({"a_b": [1, 2.5, None], "sha256": "x"}) == "a b 1, 2.5, –, SHA-256 x"
    assert len(said("x" * 1000)) == 400
    assert clean("a\u202eb\x00c\nd") == "a\ufffdb\ufffdc\nd"
