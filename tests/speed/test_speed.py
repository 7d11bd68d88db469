"""The protocol, with engines that only keep a diary."""

from __future__ import annotations

from itertools import accumulate

import pytest

from gatenorm.engines import Case, Sample, Shares, SkippedError
from gatenorm.records.evidence import Spread
from gatenorm.speed.measure.turns import Measured, measure

ONE, TWO = Case(16), Case(32, batch=2, new=4)


class Diary:
    """A session that writes down when it was asked for what; ``refuses`` names (case, which of its runs)."""

    versions: dict[str, str] = {}  # noqa: RUF012 - the protocol's name for it
    dtype = None

    def __init__(self, name: str, pages: list[str], refuses: tuple[Case, int] | None = None):
        self.name, self.pages, self.refuses = name, pages, refuses
        self.runs: dict[Case, int] = {}

    def run(self, case: Case) -> Sample:
        self.pages.append(f"{self.name}{case.tokens}")
        self.runs[case] = self.runs.get(case, 0) + 1
        if self.refuses == (case, self.runs[case]):
            raise SkippedError("too large")
        return Sample(float(self.runs[case]), 1.0, 2.0, 100, 1000 + self.runs[case])

    def profile(self, case: Case) -> Shares:
        self.pages.append(f"P{case.tokens}")
        return Shares((0,), (0.5,), (0.25,))

    def close(self) -> None:
        pass


def test_variants_take_turns_after_one_warm_up():
    pages: list[str] = []
    seen: list[tuple[int, int]] = []
    sessions = {name: Diary(name, pages) for name in "AB"}
    found = measure(sessions, [ONE, TWO], 3, progress=lambda *at: seen.append(at))
    assert pages == ["A16", "B16"] * 4 + ["A32", "B32"] * 4
    assert [(m.name, m.case) for m in found] == [("A", ONE), ("B", ONE), ("A", TWO), ("B", TWO)]
    assert [s.prefill for s in found[0].samples] == [2.0, 3.0, 4.0]  # the first run was the warm-up
    turns = [16 + 32] * 8 + [2 * (32 + 4)] * 8  # a long prompt counts for more
    assert seen == [(done, sum(turns)) for done in accumulate(turns)]


def test_the_baseline_is_profiled_at_the_end_of_every_round():
    pages: list[str] = []
    found = measure({name: Diary(name, pages) for name in "AB"}, [ONE], 2, baseline="A")
    assert pages == ["A16", "B16", "P16"] * 3
    assert len(found[0].shares) == 2  # not that of the warm-up
    assert found[1].shares == []


@pytest.mark.parametrize("turn", [1, 3])
def test_what_does_not_fit_is_skipped_and_the_rest_goes_on(turn: int):
    pages: list[str] = []
    sessions = {"A": Diary("A", pages), "B": Diary("B", pages, refuses=(ONE, turn))}
    found = {(m.name, m.case): m for m in measure(sessions, [ONE, TWO], 3)}
    assert found["B", ONE].skipped == "too large"
    assert found["B", ONE].samples == []
    assert pages.count("B16") == turn
    for key in (("A", ONE), ("A", TWO), ("B", TWO)):
        assert found[key].skipped is None
        assert len(found[key].samples) == 3


def test_ratios_are_formed_within_each_round():
    """A machine that slows down by ten between rounds: ratios of medians would lie."""
    a = Measured("A", ONE, [Sample(s, s, 10 * s) for s in (1.0, 10.0, 100.0)])
    b = Measured("B", ONE, [Sample(s, s, 5 * s) for s in (0.5, 2.5, 50.0)])
    assert b.speedup(a, "prefill") == Spread(2.0, 2.0, 4.0)
    assert b.speedup(a, "decode") == Spread(4.0, 4.0, 8.0)
    assert a.tokens_per_second() == Spread(32 / 100, 32 / 1000, 32 / 10)
    assert a.cache_bytes is None
    assert a.peak_bytes is None


def test_the_largest_peak_counts():
    pages: list[str] = []
    (found,) = measure({"A": Diary("A", pages)}, [TWO], 3)
    assert found.peak_bytes == 1004
    assert found.cache_bytes == 100
    assert found.tokens_per_second().median == 2 * 4 / 2.0


def test_short_runs_fill_their_turn_and_the_fastest_counts():
    """First token and decode take 3 seconds here, so a turn of 8 has three runs; only `prefill` grows run by run."""
    pages: list[str] = []
    found = measure({name: Diary(name, pages) for name in "AB"}, [ONE], 2, turn_seconds=8.0)
    assert pages == ["A16", "B16"] + (["A16"] * 3 + ["B16"] * 3) * 2
    assert [m.runs for m in found] == [3, 3]
    assert [s.prefill for s in found[0].samples] == [2.0, 5.0]
    assert [s.peak_bytes for s in found[0].samples] == [1004, 1007]


def test_a_run_that_fails_within_a_turn_ends_the_series():
    pages: list[str] = []
    sessions = {"A": Diary("A", pages), "B": Diary("B", pages, refuses=(ONE, 3))}
    found = measure(sessions, [ONE], 2, turn_seconds=8.0)
    assert found[1].skipped == "too large"
    assert found[1].samples == []
    assert pages.count("B16") == 3
