"""How long a command will take, told from its own first part."""

from __future__ import annotations

import pytest

from gatenorm.cli import console
from gatenorm.cli.estimate import Estimate


def told(reports: list[tuple[float, int]], total: int) -> list[str]:
    """The lines of an estimate that is driven at these seconds."""
    now = iter([at for at, _ in reports])
    estimate = Estimate("scoring", clock=lambda: next(now))
    return [line for _, done in reports if (line := estimate.line(done, total))]


def test_a_rate_is_measured_then_told_once():
    # Loading comes before the first report; from 10 to 30 of 1,000 took 20 seconds, so 970 more take 970.
    (line,) = told([(100, 10), (102, 12), (120, 30), (140, 60)], 1000)
    assert line.startswith("scoring: about 16 min more; ")
    assert line.endswith("B of memory so far")


@pytest.mark.parametrize(
    ("reports", "total"),
    [
        ([(0, 1), (4, 500)], 1000),  # too short a time to measure a rate
        ([(0, 1), (60, 10)], 1000),  # too small a share of the work
        ([(0, 0), (10, 500)], 1000),  # ten seconds are left
        ([(0, 0), (100, 1000)], 1000),  # over
    ],
)
def test_what_is_not_known_or_short_is_not_told(reports: list[tuple[float, int]], total: int):
    assert told(reports, total) == []


def test_a_long_piece_of_work_says_so_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    now = iter([0.0, 50.0, 0.0, 50.0])
    monkeypatch.setattr(console, "Estimate", lambda what: Estimate(what, clock=lambda: next(now)))
    for quiet in ((), ("quiet",)):
        with console.manner(quiet), console.progress_bar("comparing criteria", "steps") as progress:
            progress(1, 100)
            progress(11, 100)
    assert capsys.readouterr().err.count("comparing criteria: about 7 min more") == 1
