"""Parts of texts are cut between words, and say so."""

from __future__ import annotations

import pytest

from gatenorm.report.excerpts import beginning, ending


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("one  two\nthree", "one two three", "one two three"),
        ("one two three four five", "one two …", "… four five"),
        ("一二三四五六七八九十一二三四", "一二三四五六七八九十一 …", "… 四五六七八九十一二三四"),
        ("", "", ""),
    ],
)
def test_both_ends_of_a_text(text: str, first: str, last: str):
    assert (beginning(text, 13), ending(text, 13)) == (first, last)
    assert max(len(first), len(last)) <= 13
